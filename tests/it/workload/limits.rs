//! Bounds: callers, messages, silence.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::{House, WEB, workload};

#[test]
fn a_user_has_so_many_calls_and_no_more() {
    let house = House::new(&workload(WEB, &["unix:uid:0"], "").replacen(
        "[[workload]]",
        "max_streams_per_user = 3\n[[workload]]",
        1,
    ));
    house.fetch(&["fetch"]);
    let open: Vec<_> = (0..3).map(|_| house.watch(&["watch"])).collect();
    open.iter().for_each(|watch| drop(watch.answer()));
    // The fourth connection is not taken.
    let (code, _) = house.call("/SpiffeWorkloadAPI/FetchX509SVID", &[]);
    assert_eq!(code, "UNAVAILABLE");
    drop(open);
    house.fetch(&["fetch"]);
}

#[test]
fn what_is_no_http_2_is_closed_and_others_live_on() {
    let house = House::new(&workload(WEB, &["unix:uid:0"], ""));
    let watch = house.watch(&["watch"]);
    watch.answer();
    for garbage in [
        &b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..],
        &[0xff; 4_096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut stream = UnixStream::connect(house.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        drop(stream.write_all(garbage));
        let mut rest = Vec::new();
        // An end or a reset, and no silence.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{garbage:?}");
        }
    }
    house.fetch(&["fetch"]);
}
