//! A configuration for one measurement, from `key=value` arguments.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use keyward::shell::config::{self, Overrides, Settings};

/// Where a measurement happens and with how many certificates.
#[derive(Clone)]
pub struct Site {
    /// State, installed files and keys are below it.
    pub dir: PathBuf,
    /// The CA's directory.
    pub directory: String,
    /// The CA's roots, PEM.
    pub root: PathBuf,
    /// Certificates `first`..`first + count`.
    pub first: usize,
    /// How many.
    pub count: usize,
    /// Port of our http-01 listener.
    pub http: u16,
    /// Port of the server that serves what is installed; 0 if nothing is served.
    pub served: u16,
    /// Orders in flight.
    pub in_flight: usize,
    /// How long an idle guardian is watched, in seconds.
    pub seconds: u64,
}

impl Site {
    /// From `key=value` pairs; what is not named has a default.
    pub fn from(arguments: &[&str]) -> Self {
        let mut site = Self {
            dir: PathBuf::from("/tmp/keyward-bench"),
            directory: "https://127.0.0.1:14000/dir".to_owned(),
            root: PathBuf::from("/tmp/keyward-bench/root.pem"),
            first: 0,
            count: 1,
            http: 5002,
            served: 0,
            in_flight: 8,
            seconds: 10,
        };
        for argument in arguments {
            let (key, value) = argument.split_once('=').expect("arguments are key=value");
            let number = || value.parse::<u64>().expect("a number");
            match key {
                "dir" => site.dir = PathBuf::from(value),
                "directory" => site.directory = value.to_owned(),
                "root" => site.root = PathBuf::from(value),
                "first" => site.first = number() as usize,
                "count" => site.count = number() as usize,
                "http" => site.http = number() as u16,
                "served" => site.served = number() as u16,
                "in_flight" => site.in_flight = number() as usize,
                "seconds" => site.seconds = number(),
                _ => panic!("unknown argument {key}"),
            }
        }
        site
    }

    /// The validated configuration; makes the directory for what is installed.
    pub fn settings(&self) -> Settings {
        std::fs::create_dir_all(self.live()).expect("a directory");
        config::parse("bench.toml", &self.text(), Overrides::default()).unwrap_or_else(|e| panic!("{e}"))
    }

    /// Where files are installed.
    pub fn live(&self) -> PathBuf {
        self.dir.join("live")
    }

    /// The configuration as it is written.
    pub fn text(&self) -> String {
        let quoted = |path: &Path| format!("{:?}", path.to_str().expect("UTF-8"));
        let Self { directory, http, in_flight, .. } = self;
        let (state, root) = (quoted(&self.dir.join("state")), quoted(&self.root));
        let mut text = format!(
            "state_dir = {state}\n[timing]\norders_in_flight = {in_flight}\n\
             [[issuer]]\nid = \"ca\"\ndirectory = \"{directory}\"\nterms_agreed = true\nroot_files = [{root}]\n\
             requests_per_second = 1000\n\
             [[solver]]\nid = \"web\"\ntype = \"http-01\"\nlisten = [\"127.0.0.1:{http}\"]\n"
        );
        for i in self.first..self.first + self.count {
            let name = name(i);
            let dir = quoted(&self.live().join(&name));
            writeln!(
                text,
                "[[certificate]]\nid = \"{name}\"\nnames = [\"{name}.example.com\"]\nissuers = [\"ca\"]\n\
                 solvers = [\"web\"]\ninstall = [{{ dir = {dir}, formats = [\"fullchain\", \"key\"] }}]"
            )
            .expect("memory");
            if self.served != 0 {
                let port = self.served;
                writeln!(text, "endpoint = [{{ connect = \"127.0.0.1:{port}\", sni = \"{name}.example.com\" }}]")
                    .expect("memory");
            }
        }
        text
    }
}

/// The id of the `i`-th certificate, and the first label of its name.
pub fn name(i: usize) -> String {
    format!("c{i:05}")
}
