//! Networks, and which addresses are those of the public Internet: what somebody else's word may make us connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::codec::ParseError;

/// A network: an address and how many of its first bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    const fn v4(a: u8, b: u8, c: u8, bits: u32) -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::new(a, b, c, 0)), bits }
    }

    const fn v6(a: u16, b: u16, bits: u32) -> Self {
        Self { address: IpAddr::V6(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0)), bits }
    }

    /// `10.0.0.0/8`, `2001:db8::/32`, or a single address.
    ///
    /// # Errors
    /// What is neither, and a network whose address has bits beyond its own.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| ParseError(format!("{text:?} holds no IP address")))?;
        let most = width(address);
        let bits = match bits {
            None => most,
            Some(digits) => {
                let plain = digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit());
                let bits = digits.parse().ok().filter(|bits| plain && *bits <= most);
                bits.ok_or_else(|| ParseError(format!("{text:?} ends in no number of bits from 0 to {most}")))?
            }
        };
        let own = Self { address, bits };
        let first = own.masked(number(address));
        if first != number(address) {
            return Err(ParseError(format!("{text:?} is an address inside of a network, not the network's own")));
        }
        Ok(own)
    }

    /// Whether the address is one of it. An IPv4 address in IPv6 clothes is what it is.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        width(address) == width(self.address) && self.masked(number(address)) == number(self.address)
    }

    fn masked(&self, number: u128) -> u128 {
        let gone = width(self.address).saturating_sub(self.bits);
        number.checked_shr(gone).and_then(|n| n.checked_shl(gone)).unwrap_or(0)
    }
}

fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The blocks of IPv4 that are not globally reachable (IANA's registry of special-purpose addresses), multicast and what is
/// reserved.
const SPECIAL: [Network; 16] = [
    Network::v4(0, 0, 0, 8),
    Network::v4(10, 0, 0, 8),
    Network::v4(100, 64, 0, 10),
    Network::v4(127, 0, 0, 8),
    Network::v4(169, 254, 0, 16),
    Network::v4(172, 16, 0, 12),
    Network::v4(192, 0, 0, 24),
    Network::v4(192, 0, 2, 24),
    Network::v4(192, 88, 99, 24),
    Network::v4(192, 168, 0, 16),
    Network::v4(198, 18, 0, 15),
    Network::v4(198, 51, 100, 24),
    Network::v4(203, 0, 113, 24),
    Network::v4(224, 0, 0, 4),
    Network::v4(240, 0, 0, 4),
    Network::v4(255, 255, 255, 24),
];

/// All of IPv6 that is handed out as unicast.
const UNICAST: Network = Network::v6(0x2000, 0, 3);
/// What of it is no host of the Internet: protocol assignments with Teredo, documentation, 6to4, documentation again.
const SPECIAL_V6: [Network; 4] = [
    Network::v6(0x2001, 0, 23),
    Network::v6(0x2001, 0xdb8, 32),
    Network::v6(0x2002, 0, 16),
    Network::v6(0x3fff, 0, 20),
];
/// An IPv4 address as a NAT64 shows it (RFC 6052): what counts is the address in it.
const NAT64: Network = Network::v6(0x64, 0xff9b, 96);

/// The address that packets reach in the end: that inside of a NAT64's or of IPv6 clothes, else itself.
#[must_use]
pub fn reached(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if NAT64.contains(v6.into()) => {
            let [.., a, b, c, d] = v6.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        plain @ (IpAddr::V4(_) | IpAddr::V6(_)) => plain,
    }
}

/// Whether it is an address of the public Internet, not one of this machine, of its neighbours, or of nobody.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match reached(address) {
        v4 @ IpAddr::V4(_) => !SPECIAL.iter().any(|network| network.contains(v4)),
        v6 @ IpAddr::V6(_) => UNICAST.contains(v6) && !SPECIAL_V6.iter().any(|network| network.contains(v6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_nat64_counts_the_address_inside() {
        let reached = |text: &str| reached(text.parse().unwrap()).to_string();
        assert_eq!(reached("64:ff9b::a01:203"), "10.1.2.3");
        assert_eq!(reached("::ffff:10.1.2.3"), "10.1.2.3");
        assert_eq!(reached("64:ff9b:1::a01:203"), "64:ff9b:1::a01:203");
        assert_eq!(reached("2a00::1"), "2a00::1");
    }

    #[test]
    fn only_addresses_of_the_internet_are_public() {
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "172.32.0.1",
            "100.128.0.1",
            "2606:4700::1111",
            "2a00::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for own in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "4000::1",
        ] {
            assert!(!is_public(own.parse().unwrap()), "{own}");
        }
    }

    #[test]
    fn a_network_is_an_address_with_nothing_beyond_its_bits() {
        let in_it = |network: &str, address: &str| Network::parse(network).unwrap().contains(address.parse().unwrap());
        for (network, address) in [
            ("10.0.0.0/8", "10.9.8.7"),
            ("10.0.0.0/8", "::ffff:10.9.8.7"),
            ("127.0.0.1", "127.0.0.1"),
            ("0.0.0.0/0", "1.2.3.4"),
            ("fd00::/8", "fd12::1"),
            ("::1", "::1"),
        ] {
            assert!(in_it(network, address), "{network} {address}");
        }
        for (network, address) in
            [("10.0.0.0/8", "11.0.0.0"), ("127.0.0.1", "127.0.0.2"), ("0.0.0.0/0", "::1"), ("::/0", "1.2.3.4")]
        {
            assert!(!in_it(network, address), "{network} {address}");
        }
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0.1/8",
            "10.0.0/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::/129",
            "fd00::1/8",
            "localhost",
            "10.0.0.0/8/8",
        ] {
            assert!(Network::parse(bad).is_err(), "{bad}");
        }
    }
}
