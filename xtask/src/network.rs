//! One bridge an Engine, with a subnet that collides with no route of the host.
//! The Engine itself is told to keep its hands off the firewall; where containers
//! are to reach the world, three rules that name the bridge do it, and leave with
//! it. No policy, chain or rule of the host's is changed.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::process;
use crate::root::Root;
use crate::run;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// A bridge of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// The interface's name: at most 15 bytes.
    pub name: String,
    /// The host's address on it; the subnet is its /24.
    pub address: Ipv4Addr,
    /// Whether containers reach the world through it.
    pub outbound: bool,
    /// Whether the host forwarded nothing before.
    pub forwarding_was_off: bool,
}

impl Bridge {
    /// Chooses name and subnet; changes nothing. `id` (8 hex digits) names the
    /// environment, `number` the Engine in it.
    ///
    /// # Errors
    /// When every candidate collides.
    pub fn plan(id: &str, number: usize, outbound: bool, taken: &[Self]) -> Result<Self> {
        let table = fs::read_to_string("/proc/net/route").context("cannot read the routes")?;
        let mut nets = parse_routes(&table);
        nets.extend(taken.iter().map(|bridge| Net { address: bridge.address.into(), mask: 0xffff_ff00 }));
        // Environments start looking at different places, so that two coming up at
        // the same time do not choose the same.
        let start = u32::from_str_radix(id.get(..4).unwrap_or_default(), 16).unwrap_or_default();
        let address = free_address(start, &nets).context(
            "no free subnet: every 10.213.N.0/24 to 10.220.N.0/24 collides with a route of this host",
        )?;
        let forwarding_was_off = outbound && fs::read_to_string(FORWARDING).is_ok_and(|on| on.trim() == "0");
        Ok(Self { name: format!("ay{id}{number}"), address, outbound, forwarding_was_off })
    }

    /// Creates it.
    ///
    /// # Errors
    /// When the host refuses.
    pub fn create(&self, root: &Root) -> Result<()> {
        let ip = |args: &[&str]| run::output(root.command("ip").args(args));
        if Path::new("/sys/class/net").join(&self.name).exists() {
            bail!("the network interface {} exists already; remove it: ip link del {0}", self.name);
        }
        ip(&["link", "add", &self.name, "type", "bridge"]).context("cannot create a bridge")?;
        ip(&["addr", "add", &format!("{}/24", self.address), "dev", &self.name])?;
        ip(&["link", "set", &self.name, "up"])?;
        if self.outbound
            && let Err(error) = self.open(root)
        {
            eprintln!("xtask: warning: steps of builds will not reach the network: {error:#}");
        }
        Ok(())
    }

    fn open(&self, root: &Root) -> Result<()> {
        if self.forwarding_was_off {
            set_forwarding(root, true)?;
        }
        let subnet = format!("{}/24", self.address);
        let name = self.name.as_str();
        let masquerade =
            ["-t", "nat", "-I", "POSTROUTING", "-s", &subnet, "!", "-o", name, "-j", "MASQUERADE"];
        let back = [
            "-I",
            "FORWARD",
            "-o",
            name,
            "-m",
            "conntrack",
            "--ctstate",
            "RELATED,ESTABLISHED",
            "-j",
            "ACCEPT",
        ];
        let out = ["-I", "FORWARD", "-i", name, "-j", "ACCEPT"];
        for rule in [&masquerade[..], &back, &out] {
            run::output(root.command("iptables").args(["-w", "20"]).args(rule))?;
        }
        Ok(())
    }

    /// Removes it, and every firewall rule that names it.
    ///
    /// # Errors
    /// When something of it stays.
    pub fn remove(&self, root: &Root) -> Result<()> {
        for (program, table) in [("iptables", "filter"), ("iptables", "nat")] {
            if self.outbound && run::find(program).is_some() {
                let Ok(rules) = run::output(root.command(program).args(["-w", "20", "-t", table, "-S"]))
                else {
                    continue;
                };
                for rule in rules_naming(&rules, &self.name) {
                    run::output(root.command(program).args(["-w", "20", "-t", table, "-D"]).args(rule))?;
                }
            }
        }
        if Path::new("/sys/class/net").join(&self.name).exists() {
            run::output(root.command("ip").args(["link", "del", &self.name]))?;
        }
        // An Engine that was started meanwhile needs it: then it stays.
        let needed = process::all().iter().any(|process| process::comm(process.pid) == "dockerd");
        if self.forwarding_was_off && !needed {
            set_forwarding(root, false)?;
        }
        Ok(())
    }
}

fn set_forwarding(root: &Root, on: bool) -> Result<()> {
    let write = format!("echo {} > {FORWARDING}", u8::from(on));
    run::output(root.command("sh").args(["-c", &write])).map(drop)
}

/// The packet size of the way out: a larger one inside the containers gets lost.
#[must_use]
pub fn outbound_mtu() -> Option<u32> {
    let table = fs::read_to_string("/proc/net/route").ok()?;
    let device = table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        (fields.get(1) == Some(&"00000000")).then(|| fields[0].to_owned())
    })?;
    fs::read_to_string(format!("/sys/class/net/{device}/mtu")).ok()?.trim().parse().ok()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Net {
    address: u32,
    mask: u32,
}

impl Net {
    fn overlaps(self, other: Self) -> bool {
        let mask = self.mask & other.mask;
        // The default route covers all and collides with nothing.
        self.mask != 0 && other.mask != 0 && self.address & mask == other.address & mask
    }
}

/// Destination and mask, hexadecimal, in the machine's byte order.
fn parse_routes(table: &str) -> Vec<Net> {
    let number = |text: Option<&&str>| u32::from_str_radix(text?, 16).ok().map(u32::swap_bytes);
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            Some(Net { address: number(fields.get(1))?, mask: number(fields.get(7))? })
        })
        .collect()
}

fn free_address(start: u32, taken: &[Net]) -> Option<Ipv4Addr> {
    (0..2048).map(|step| (start + step) % 2048).find_map(|index| {
        let address = (10 << 24) + (213 << 16) + (index << 8) + 1;
        let net = Net { address, mask: 0xffff_ff00 };
        (!taken.iter().any(|other| other.overlaps(net))).then(|| Ipv4Addr::from(address))
    })
}

/// The arguments of `iptables -D` for each rule that names the interface.
fn rules_naming<'a>(rules: &'a str, interface: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
    rules
        .lines()
        .map(|rule| rule.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(move |words| words.first() == Some(&"-A") && words.contains(&interface))
        .map(|words| words[1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
ay1\t0001D50A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
vpn\t0000D80A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0";

    #[test]
    fn subnets_avoid_the_hosts_routes() {
        let nets = parse_routes(ROUTES);
        assert_eq!(nets.len(), 3);
        assert_eq!(free_address(0, &nets), Some(Ipv4Addr::new(10, 213, 0, 1)));
        assert_eq!(free_address(1, &nets), Some(Ipv4Addr::new(10, 213, 2, 1)), "10.213.1.0/24 is taken");
        assert_eq!(
            free_address(3 * 256, &nets),
            Some(Ipv4Addr::new(10, 217, 0, 1)),
            "10.216.0.0/16 is taken"
        );
        let all = Net { address: 10 << 24, mask: 0xff00_0000 };
        assert_eq!(free_address(0, &[all]), None);
    }

    #[test]
    fn only_rules_of_the_bridge_are_deleted() {
        let rules = "-P FORWARD ACCEPT\n-A FORWARD -i ayab1 -j ACCEPT\n-A FORWARD -i ayab12 -j ACCEPT\n-N X";
        assert_eq!(
            rules_naming(rules, "ayab1").collect::<Vec<_>>(),
            [vec!["FORWARD", "-i", "ayab1", "-j", "ACCEPT"]]
        );
    }

    #[test]
    fn two_engines_get_two_bridges() {
        let first = Bridge::plan("00aa11bb", 1, false, &[]).unwrap();
        let second = Bridge::plan("00aa11bb", 2, false, std::slice::from_ref(&first)).unwrap();
        assert!(first.name != second.name && first.address != second.address);
        assert!(first.name.len() <= 15, "{}", first.name);
    }
}
