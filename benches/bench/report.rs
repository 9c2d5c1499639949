//! One line a figure, for `benches/run` to collect.

/// Prints `figure<TAB>NAME<TAB>UNIT<TAB>VALUE`.
pub fn figure(name: &str, unit: &str, value: f64) {
    println!("figure\t{name}\t{unit}\t{value:.3}");
}

/// This process's memory as the kernel counts it.
pub fn memory() {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    for (key, name) in [("VmRSS:", "resident memory"), ("RssAnon:", "of it anonymous"), ("VmHWM:", "peak memory")] {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line for it");
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        figure(name, "MiB", kib / 1_024.0);
    }
}
