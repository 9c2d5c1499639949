//! What `keyward check` looks at on the machine, `KW01xx`.

use super::{Entry, row};

/// `row(code, title, meaning, what to do)`, in the order of the codes.
pub(super) const ROWS: &[Entry] = &[
    row(
        "KW0101",
        "state directory",
        "It must belong to the user that Keyward runs as, be writable for that user and for nobody else: it holds the private keys and the audit log.",
        "Run the command of the check, usually a chown or chmod 0700.",
    ),
    row(
        "KW0102",
        "free space",
        "When the audit log cannot be written, nothing that adds authority happens: renewals stop and gates close. Below 64 MiB is an error, below 512 MiB a warning.",
        "Make room, or move `state_dir`.",
    ),
    row(
        "KW0103",
        "root files",
        "The roots that an issuer is trusted by must be readable PEM, and not writable for others.",
        "Mend path or mode; convert DER with openssl.",
    ),
    row(
        "KW0104",
        "secret files",
        "Keys and passwords must be readable for Keyward and not for everybody.",
        "Set mode 0600. If everybody could read it, replace the secret.",
    ),
    row(
        "KW0105",
        "programs, units and pid files",
        "Hooks and reload programs must exist, be executable and not be changeable by everybody; systemd must run where units are to be reloaded; pid files should be there.",
        "Run the command of the check, or choose another way to reload.",
    ),
    row(
        "KW0106",
        "install directories and webroots",
        "Directories must be writable, or creatable by this user.",
        "Create them with the command of the check.",
    ),
    row(
        "KW0107",
        "install directories open to everybody",
        "Who may write to a directory above a certificate can swap the certificate and its key.",
        "Take the right away from others with chmod o-w.",
    ),
    row(
        "KW0108",
        "watched files",
        "A watched file that cannot be read is a finding, and its approval paths stay closed.",
        "Mend the path, or give Keyward's user read access.",
    ),
    row(
        "KW0109",
        "users and groups",
        "Files are given to users and groups that must be in /etc/passwd and /etc/group, and that this process may give files to.",
        "Create the account, write its number, or join the group.",
    ),
    row(
        "KW0110",
        "addresses in use",
        "An address is held by another program, or this machine does not have it. One that a running keyward holds is fine.",
        "Stop the other program, choose another address, or use the `webroot` of the web server that holds port 80.",
    ),
    row(
        "KW0111",
        "sockets",
        "The directories of the sockets must be there or creatable, and nothing else may lie in their place. Nobody but Keyward should be able to write the directory of the gate's socket.",
        "Create the directory, with systemd by RuntimeDirectory=keyward.",
    ),
    row(
        "KW0112",
        "clock",
        "Certificates, orders and leases depend on the time. A clock before the release of this program is wrong.",
        "Switch time synchronisation on.",
    ),
    row(
        "KW0113",
        "privileged ports",
        "Ports below 1024 need a capability, or a lower limit of the kernel.",
        "Use systemd's AmbientCapabilities=CAP_NET_BIND_SERVICE, or the sysctl of the check.",
    ),
];
