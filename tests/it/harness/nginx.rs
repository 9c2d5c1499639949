//! Debian's nginx as the server whose certificate is renewed: in a directory and on a loopback address of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::life::{Place, free_port};

/// Ends with the value, whoever started it.
pub struct Nginx {
    pub tls: SocketAddr,
    dir: PathBuf,
    /// Starts nginx, or reloads it if it runs: for hooks.
    pub hook: String,
}

impl Nginx {
    /// Writes the configuration; `http`, if it is given, serves `@/webroot` in the clear.
    pub fn new(place: &Place, fullchain: &str, key: &str, http: Option<SocketAddr>) -> Self {
        let (dir, tls) = (place.at("nginx"), free_port(place.ip));
        fs::create_dir_all(&dir).unwrap();
        let at = dir.display();
        let plain = http.map_or(String::new(), |http| {
            fs::create_dir_all(place.at("webroot")).unwrap();
            format!("server {{ listen {http}; root {}; default_type text/plain; }}", place.at("webroot").display())
        });
        let user = if fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0) {
            "user root;"
        } else {
            ""
        };
        let conf = format!(
            "{user} worker_processes 1; pid {at}/nginx.pid; error_log {at}/error.log info;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3;\n\
             uwsgi_temp_path {at}/4; scgi_temp_path {at}/5; {plain}\n\
             server {{ listen {tls} ssl; ssl_certificate {fullchain}; ssl_certificate_key {key}; return 200 served; }} }}"
        );
        fs::write(dir.join("nginx.conf"), conf).unwrap();
        let nginx = format!("/usr/sbin/nginx -p {at} -e {at}/error.log -c {at}/nginx.conf");
        let hook = place.script(
            "nginx/start-or-reload",
            &format!("[ -s {at}/nginx.pid ] && set -- -s reload\nexec {nginx} \"$@\""),
        );
        Self { tls, dir, hook }
    }

    /// Runs the hook by hand, so that nginx serves what is there already.
    pub fn start(&self) {
        let done = Command::new(&self.hook).output().expect("a shell");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "nginx does not start ({said}); run tests/run, which installs it");
    }

    /// What a reload by hand would run.
    pub fn argv(&self) -> [String; 7] {
        let conf = self.dir.join("nginx.conf").display().to_string();
        let log = self.dir.join("error.log").display().to_string();
        ["/usr/sbin/nginx".into(), "-e".into(), log, "-c".into(), conf, "-s".into(), "reload".into()]
    }

    fn pid(&self) -> Option<String> {
        let text = fs::read_to_string(self.dir.join("nginx.pid")).ok()?;
        Some(text.trim().to_owned()).filter(|t| !t.is_empty())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let Some(pid) = self.pid() else { return };
        Command::new("kill").args(["-TERM", &pid]).status().ok();
        // It removes its pid file at its end; without that its directory could not be removed.
        let began = Instant::now();
        while self.pid().is_some() && began.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
