//! The tables of users and groups of a Unix system: passwd(5) and group(5).

/// The number of `who` in such a table: `name:password:number:…`.
#[must_use]
pub fn number_in(table: &str, who: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(who)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// User and group number of `who`, by name or number, in passwd(5).
#[must_use]
pub fn account_in(table: &str, who: &str) -> Option<(u32, u32)> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').take(4).collect();
        let [name, _, uid, gid] = *fields else { return None };
        (name == who || uid == who).then(|| Some((uid.parse().ok()?, gid.parse().ok()?))).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_whole_field_and_its_number_the_third() {
        let table = "# x\nwww:x:33:\nwww-data:x:34:a,b\nbroken\nodd:x:many:\n";
        let found = ["www", "www-data", "data", "broken", "odd", ""].map(|who| number_in(table, who));
        assert_eq!(found, [Some(33), Some(34), None, None, None, None]);
        let passwd = "root:x:0:0:root:/root:/bin/sh\nkeeper:x:990:980:::\nbroken:x:7\n";
        let found = ["keeper", "990", "root", "broken", "980"].map(|who| account_in(passwd, who));
        assert_eq!(found, [Some((990, 980)), Some((990, 980)), Some((0, 0)), None, None]);
    }
}
