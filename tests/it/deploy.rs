//! Installing files and reloading servers, against attackers, crashes and full disks.

mod crash;
mod formats;
mod hostile;
mod reload;
mod sets;
mod staging;
