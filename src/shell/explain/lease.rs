//! Leases, permits and the key behind them, `KW41xx` and `KW42xx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW4101",
        "not an audience",
        "A lease or a permit was asked for by a name that the path does not list in `audiences`. None is given, whatever \
         the verdict.",
        "If it is yours, list it: audiences = [\"portal\"] in the [[path]], then reload.",
    ),
    row(
        "KW4102",
        "no time left",
        "The path is open still, but what it stands on ends so soon that a lease would end at once: a lease ends four \
         seconds before it.",
        "Reopens once the credential is renewed and served; see keyward gate status for the weakest link.",
    ),
    row(
        "KW4103",
        "nothing can be signed",
        "The guardian has no lease key or no epoch, so nobody could rely on what it says.",
        "See the log of the daemon: `lease.key` in the state directory must be a file of the daemon's user at 0600.",
    ),
    row(
        "KW4104",
        "too many streams",
        "As many streams of leases are open as there may be. Each is a connection that stays.",
        "Close some, read the lease file, or ask for a lease every five seconds.",
    ),
    row(
        "KW4105",
        "no such question",
        "A lease or a permit was asked for by the wrong method, through the wrong door, or without an audience. As with a \
         gate, the answer is 403.",
        "Ask as docs/lease.md and docs/permits.md say.",
    ),
    row(
        "KW4106",
        "lease key unchanged",
        "The lease key could not be changed: none is announced, it cannot be written, or the change could not be recorded. \
         The key in use stays.",
        "keyward gate keys says which keys there are; the order is rotate-key, then rotate-key --finish.",
    ),
    row(
        "KW4107",
        "lease file fails",
        "A lease file cannot be written or removed. Its consumers close when the lease that they have ends, fifteen seconds \
         at most.",
        "Make its directory writable for the daemon; it is tried again every second.",
    ),
    row(
        "KW4111",
        "next lease key announced",
        "The next lease key was made. It signs nothing yet; the entry names it.",
        "Let every consumer pin it, then: keyward gate rotate-key --finish.",
    ),
    row(
        "KW4112",
        "next lease key used",
        "From here on the key that the entry names signs leases and permits; the one before it is destroyed.",
        "Consumers may drop the one before it.",
    ),
    row(
        "KW4201",
        "permit",
        "One decision, named by its SHA-256, was permitted while its path was open. The entry is durable before the permit \
         exists; if the path closed in that moment, nobody got the permit.",
        "Nothing.",
    ),
    row(
        "KW4202",
        "too many permits wait",
        "As many permits wait for the disk as may.",
        "Ask for fewer at once, and again; if it goes on, look at the disk of the state directory.",
    ),
    row(
        "KW4203",
        "permit not recorded",
        "The permit's entry could not be written, so there is no permit.",
        "Mend the disk of the state directory; keyward status says what is wrong.",
    ),
];
