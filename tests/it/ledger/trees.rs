//! A log as static files, in a directory and on a web server.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use keyward::codec::tiles::{File, Tiler};
use keyward::domain::key::Digest;

use crate::harness::ledger::{Written, keyward, python};

/// Writes the files of C2SP tlog-tiles.
fn export(log: &Written) -> tempfile::TempDir {
    let dir = tempfile::TempDir::new().unwrap();
    let put = |files: Vec<File>| {
        for file in files {
            let path = dir.path().join(&file.path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file.bytes).unwrap();
        }
    };
    let mut tiler = Tiler::default();
    for row in log.rows() {
        put(tiler.push(Digest(row.leaf), &row.body).unwrap());
    }
    put(tiler.partial());
    fs::write(dir.path().join("checkpoint"), log.notes().pop().unwrap().note).unwrap();
    dir
}

fn copy(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::TempDir::new().unwrap();
    let status = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(dir.path()).status().unwrap();
    assert!(status.success());
    dir
}

/// Answers GET with the files of a directory, until the test ends.
fn serve(dir: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/log", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, dir) = (stream.unwrap(), dir.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|n| n > 0) {
                    let path = line.split(' ').nth(1).unwrap_or("").trim_start_matches("/log/").to_owned();
                    while reader.read_line(&mut line).is_ok_and(|n| n > 2) {}
                    let (status, body) = match fs::read(dir.join(&path)) {
                        Ok(body) => ("200 OK", body),
                        Err(_) => ("404 Not Found", Vec::new()),
                    };
                    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
                    if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    url
}

#[test]
fn static_files_are_verified_like_the_database_wherever_they_lie() {
    let log = Written::new(600);
    let (tree, key) = (export(&log), log.key().to_string());
    let (url, other) = (serve(tree.path().to_owned()), saved(&log));
    for place in [tree.path().to_str().unwrap(), &url] {
        let verify = |options: &[&str]| keyward(&[&["audit", "verify", place], options].concat());
        let (code, text) = verify(&["--key", &key]);
        assert!(code == 0 && text.contains("0–599 are proved"), "{place}: {code} {text}");
        assert!(text.contains("nothing from outside"), "{text}");
        assert_eq!(verify(&["--key", &key, "--against", other.to_str().unwrap()]).0, 0, "{place}");
        let (code, text) = verify(&[]);
        assert!(code == 5 && text.contains("KW6116"), "{place}: {code} {text}");
    }
    assert_eq!(python(&["--key", &key], &[tree.path().to_owned()])[0].0, 0);
    let gone = keyward(&["audit", "verify", &format!("{url}/elsewhere"), "--key", &key]);
    assert!(gone.0 != 0 && gone.1.contains("checkpoint is missing"), "{gone:?}");
}

fn saved(log: &Written) -> PathBuf {
    let path = log.path().join("saved");
    fs::write(&path, &log.notes()[2].note).unwrap();
    path
}

#[test]
fn bent_missing_and_cut_files_are_told_apart() {
    let log = Written::new(600);
    let (tree, key) = (export(&log), log.key().to_string());
    let mut bent = Vec::new();
    let all = [
        "checkpoint",
        "tile/entries/000",
        "tile/entries/001",
        "tile/entries/002.p/88",
        "tile/0/000",
        "tile/0/002.p/88",
        "tile/1/000.p/2",
    ];
    for file in all {
        let size = fs::metadata(tree.path().join(file)).unwrap().len() as usize;
        for at in [0, size / 3, size - 2] {
            let copy = copy(tree.path());
            let mut bytes = fs::read(copy.path().join(file)).unwrap();
            bytes[at] ^= 4;
            fs::write(copy.path().join(file), bytes).unwrap();
            bent.push((format!("{file}, byte {at}"), copy, 2));
        }
        let gone = copy(tree.path());
        fs::remove_file(gone.path().join(file)).unwrap();
        if file != "checkpoint" {
            bent.push((format!("{file} is gone"), gone, 4));
        }
        let cut = copy(tree.path());
        let bytes = fs::read(cut.path().join(file)).unwrap();
        fs::write(cut.path().join(file), &bytes[..size - 1]).unwrap();
        bent.push((format!("{file} is cut"), cut, 2));
    }
    let paths: Vec<PathBuf> = bent.iter().map(|(_, dir, _)| dir.path().to_owned()).collect();
    let python = python(&["--key", &key], &paths);
    for (n, (what, dir, expected)) in bent.iter().enumerate() {
        let (code, text) = keyward(&["audit", "verify", dir.path().to_str().unwrap(), "--key", &key]);
        assert_eq!(code, *expected, "{what}: {text}");
        assert_eq!(python[n].0, *expected, "{what}: {}", python[n].1);
    }
}
