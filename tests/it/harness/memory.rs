//! Another process's memory, as root reads it.

use std::fs;
use std::os::unix::fs::FileExt as _;

use rustix::process::{Pid, Signal, kill_process};

/// A mapping of a process (proc(5), `smaps`).
pub struct Mapping {
    pub from: u64,
    pub to: u64,
    pub mode: String,
    /// The file, or a name in brackets, or nothing.
    pub what: String,
    /// KiB by name, as `Rss`.
    sizes: Vec<(String, u64)>,
    flags: Vec<String>,
}

impl Mapping {
    pub fn kib(&self, name: &str) -> u64 {
        self.sizes.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no {name} of {self:?}")).1
    }

    pub fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|f| f == flag)
    }
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{:x} {} {} {:?} {:?}", self.from, self.to, self.mode, self.what, self.sizes, self.flags)
    }
}

pub fn mappings(pid: u32) -> Vec<Mapping> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap();
    let mut all: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if let Some(name) = first.strip_suffix(':') {
            let last = all.last_mut().unwrap();
            match name {
                "VmFlags" => last.flags = words.map(str::to_owned).collect(),
                _ => last.sizes.extend(words.next().and_then(|n| Some((name.to_owned(), n.parse().ok()?)))),
            }
            continue;
        }
        let (from, to) = first.split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mode = words.next().unwrap().to_owned();
        let what = words.nth(3).unwrap_or_default().to_owned();
        all.push(Mapping { from, to, mode, what, sizes: Vec::new(), flags: Vec::new() });
    }
    all
}

/// Which of these stand in what the process may write. It stands still meanwhile, so that all is of one moment.
pub fn seen_in_memory(pid: u32, needles: &[Vec<u8>]) -> Vec<bool> {
    let process = Pid::from_raw(pid.try_into().unwrap()).unwrap();
    kill_process(process, Signal::STOP).unwrap();
    let seen = scan(pid, needles);
    kill_process(process, Signal::CONT).unwrap();
    seen
}

fn scan(pid: u32, needles: &[Vec<u8>]) -> Vec<bool> {
    const STEP: usize = 1 << 20;
    let longest = needles.iter().map(Vec::len).max().unwrap();
    let mut begins = [false; 256];
    needles.iter().for_each(|needle| begins[usize::from(needle[0])] = true);
    let memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut seen = vec![false; needles.len()];
    let mut read = 0;
    let mut bytes = vec![0; STEP + longest];
    for mapping in mappings(pid).iter().filter(|m| m.mode.starts_with("rw")) {
        let mut at = mapping.from;
        while at < mapping.to {
            // Each step reads some of the next one, for what lies on the border.
            let size = usize::try_from(mapping.to - at).unwrap().min(bytes.len());
            let got = memory.read_at(&mut bytes[..size], at).unwrap_or(0);
            read += got;
            for (i, byte) in bytes[..got].iter().enumerate() {
                if begins[usize::from(*byte)] {
                    needles.iter().zip(&mut seen).for_each(|(n, seen)| *seen |= bytes[i..got].starts_with(n));
                }
            }
            at += STEP as u64;
        }
    }
    assert!(read > 1 << 20, "nothing of its memory could be read");
    seen
}
