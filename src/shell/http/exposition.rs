//! The Prometheus text format, version 0.0.4: families in order, each written once.

use core::fmt::Write as _;

/// One metric family that grows line by line.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    head: String,
    lines: String,
}

impl Family {
    pub(super) fn gauge(name: &'static str, help: &str) -> Self {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        Self { name, head: format!("# HELP {name} {help}\n# TYPE {name} gauge\n"), lines: String::new() }
    }

    /// One sample. Labels are written in the order given.
    pub(super) fn put(&mut self, labels: &[(&str, &str)], value: i64) {
        let out = &mut self.lines;
        out.push_str(self.name);
        for (i, (label, text)) in labels.iter().enumerate() {
            out.push(if i == 0 { '{' } else { ',' });
            out.push_str(label);
            out.push_str("=\"");
            escape(text, out);
            out.push('"');
        }
        if !labels.is_empty() {
            out.push('}');
        }
        // Writing to a string cannot fail.
        writeln!(out, " {value}").ok();
    }

    /// Appends the family, unless it is empty.
    pub(super) fn finish(self, out: &mut String) {
        if !self.lines.is_empty() {
            out.push_str(&self.head);
            out.push_str(&self.lines);
        }
    }
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_break_out_of_its_quotes() {
        let mut family = Family::gauge("x", "a\nb");
        family.put(&[("a", "\"} 1\nevil 2\\"), ("b", "é")], -5);
        let mut out = String::new();
        family.finish(&mut out);
        assert_eq!(out, "# HELP x a\\nb\n# TYPE x gauge\nx{a=\"\\\"} 1\\nevil 2\\\\\",b=\"é\"} -5\n");
    }

    #[test]
    fn a_family_without_samples_is_not_there() {
        let mut out = String::new();
        Family::gauge("x", "y").finish(&mut out);
        assert_eq!(out, "");
    }
}
