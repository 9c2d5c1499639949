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

/// User and system time of a process so far, in seconds.
pub fn processor_time(process: u32) -> f64 {
    let fields = stat(process).expect("Linux");
    let ticks: f64 = [11, 12].iter().map(|i| fields[*i].parse::<f64>().expect("a number")).sum();
    // The kernel reports in hundredths of a second on every Linux (USER_HZ).
    ticks / 100.0
}

/// The processes that this one started.
pub fn children(process: u32) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").expect("Linux");
    let all = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|other| stat(*other).is_some_and(|fields| fields[1] == process.to_string())).collect()
}

/// What stands behind the name in `/proc/PID/stat`, from the state on; nothing if the process is gone.
fn stat(process: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(stat.rsplit(')').next()?.split_whitespace().map(str::to_owned).collect())
}
