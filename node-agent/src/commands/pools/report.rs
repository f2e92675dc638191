//! What `pools` says, as text and as JSON.

use std::fmt::Write as _;

use ipnet::IpNet;
use octavia_bridge_ipam::kubernetes::Store;
use octavia_bridge_ipam::visible::visible;
use serde::Serialize;
use serde_json::{Value, json};

use crate::commands::networks::{NetworkRange, RangeUse};

/// Pools and who has which of their addresses.
#[derive(Debug)]
pub(super) struct Report {
    /// Where it comes from.
    pub(super) source: String,
    /// What becomes of what is left.
    pub(super) remedy: &'static str,
    pub(super) pools: Vec<Pool>,
    /// Ranges of networks whose pool does not exist yet.
    pub(super) without_pool: Vec<RangeUse>,
    /// Reservations without an entry.
    pub(super) alone: Vec<Holder>,
}

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) name: String,
    /// Subnet, addresses in use, and how many a range of the whole subnet would have; or what is wrong with its document.
    pub(super) fill: Result<(IpNet, u128, u128), String>,
    /// Ranges of networks in it, as far as definitions of networks can be read.
    pub(super) ranges: Vec<RangeUse>,
    pub(super) holders: Vec<Holder>,
}

/// Who has an address.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Holder {
    pub(super) address: String,
    pub(super) pod: String,
    pub(super) interface: String,
    pub(super) container: String,
    /// Where the pod is, if its writer said so.
    pub(super) node: Option<String>,
    pub(super) since: Option<String>,
    pub(super) state: State,
    /// Why it is in that state.
    pub(super) why: Option<String>,
    /// What else is worth knowing.
    pub(super) remark: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    Lives,
    Gone,
    Unknown,
}

impl Report {
    /// Adds how full the networks' ranges are.
    pub(super) fn add_ranges(&mut self, store: &Store, ranges: &[NetworkRange]) {
        for network in ranges {
            // A damaged pool is shown as such.
            let Ok(Some(usage)) = store.known_usage(&network.inquiry, network.range()) else { continue };
            let used = network.used(&usage);
            match self.pools.iter_mut().find(|pool| pool.name == network.pool) {
                Some(pool) => pool.ranges.push(used),
                None => self.without_pool.push(used),
            }
        }
    }

    fn holders(&self) -> impl Iterator<Item = &Holder> {
        self.pools.iter().flat_map(|pool| &pool.holders).chain(&self.alone)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "source": self.source,
            "pools": self.pools.iter().map(Pool::json).collect::<Vec<_>>(),
            "ranges-without-pool": self.without_pool,
            "reservations-without-entry": self.alone,
        })
    }

    pub(super) fn text(&self) -> String {
        self.visible().table()
    }

    /// The report with what others wrote into the objects as a person may see it.
    fn visible(&self) -> Self {
        Self {
            source: self.source.clone(),
            remedy: self.remedy,
            pools: self.pools.iter().map(Pool::visible).collect(),
            without_pool: self.without_pool.clone(),
            alone: self.alone.iter().map(Holder::visible).collect(),
        }
    }

    fn table(&self) -> String {
        let width = |of: fn(&Holder) -> usize| self.holders().map(of).max().unwrap_or(0);
        let widths = [
            width(|holder| holder.address.len()),
            width(|holder| holder.pod.len()),
            width(|holder| holder.interface.len()),
            width(|holder| holder.node().len()),
        ];
        let mut text = String::new();
        if self.pools.is_empty() {
            let _ = writeln!(text, "{}: no pools", self.source);
        }
        for pool in &self.pools {
            let _ = match &pool.fill {
                Ok((subnet, used, _)) => {
                    writeln!(text, "{}: {used} addresses of {subnet} in use", pool.name)
                }
                Err(why) => writeln!(text, "{}: damaged, so all agents leave it alone: {why}", pool.name),
            };
            for range in &pool.ranges {
                let _ = writeln!(text, "  {}", visible(&range.to_string()));
            }
            pool.holders.iter().for_each(|holder| holder.write(&mut text, widths));
        }
        if !self.without_pool.is_empty() {
            let _ = writeln!(text, "networks whose pool does not exist yet:");
        }
        for range in &self.without_pool {
            let _ = writeln!(text, "  {}", visible(&range.to_string()));
        }
        if !self.alone.is_empty() {
            let _ = writeln!(
                text,
                "reservations without an entry in a pool; their addresses are not assigned either:"
            );
            self.alone.iter().for_each(|holder| holder.write(&mut text, widths));
        }
        let gone = self.holders().filter(|holder| holder.state == State::Gone).count();
        if gone > 0 {
            let _ = writeln!(text, "{gone} leaked addresses of pods that are gone. {}", self.remedy);
        }
        text.trim_end().to_owned()
    }
}

impl Pool {
    fn json(&self) -> Value {
        match &self.fill {
            // Counts as text: readers of JSON lose digits of large numbers.
            Ok((range, used, capacity)) => json!({
                "name": self.name, "range": range, "used": used.to_string(), "capacity": capacity.to_string(),
                "ranges": self.ranges, "holders": self.holders,
            }),
            Err(why) => json!({ "name": self.name, "damaged": why }),
        }
    }

    fn visible(&self) -> Self {
        Self {
            name: visible(&self.name).into_owned(),
            fill: self.fill.clone().map_err(|why| visible(&why).into_owned()),
            ranges: self.ranges.clone(),
            holders: self.holders.iter().map(Holder::visible).collect(),
        }
    }
}

impl Holder {
    fn visible(&self) -> Self {
        let shown = |text: &String| visible(text).into_owned();
        Self {
            address: shown(&self.address),
            pod: shown(&self.pod),
            interface: shown(&self.interface),
            container: shown(&self.container),
            node: self.node.as_ref().map(shown),
            since: self.since.as_ref().map(shown),
            state: self.state,
            why: self.why.as_ref().map(shown),
            remark: self.remark.as_ref().map(shown),
        }
    }

    fn node(&self) -> &str {
        self.node.as_deref().unwrap_or("-")
    }

    fn write(&self, text: &mut String, [address, pod, interface, node]: [usize; 4]) {
        let Self { address: ip, pod: name, interface: ifname, since, .. } = self;
        let _ = write!(
            text,
            "  {ip:address$}  {name:pod$}  {ifname:interface$}  {:node$}  {}",
            self.node(),
            since.as_deref().unwrap_or("-")
        );
        if let Some(remark) = &self.remark {
            let _ = write!(text, "  [{remark}]");
        }
        let _ = match (self.state, &self.why) {
            (State::Lives, _) => Ok(()),
            (State::Gone, why) => write!(text, "  GONE: {}", why.as_deref().unwrap_or_default()),
            (State::Unknown, why) => write!(text, "  unknown: {}", why.as_deref().unwrap_or_default()),
        };
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(address: &str, pod: &str, state: State) -> Holder {
        Holder {
            address: address.into(),
            pod: pod.into(),
            interface: "net1".into(),
            container: "c".into(),
            node: (state == State::Lives).then(|| "worker-1".into()),
            since: None,
            state,
            why: (state != State::Lives).then(|| format!("there is no pod {pod}")),
            remark: None,
        }
    }

    #[test]
    fn people_see_who_has_what_and_what_is_left() {
        let report = Report {
            source: "ippools in kube-system".into(),
            remedy: "Agents free them.",
            pools: vec![
                Pool {
                    name: "10.0.0.0-24".into(),
                    fill: Ok(("10.0.0.0/24".parse().unwrap(), 2, 254)),
                    ranges: Vec::new(),
                    holders: vec![
                        holder("10.0.0.1", "a/long-name", State::Lives),
                        holder("10.0.0.10", "a/b", State::Gone),
                    ],
                },
                Pool {
                    name: "10.1.0.0-24".into(),
                    fill: Err("no".into()),
                    ranges: Vec::new(),
                    holders: Vec::new(),
                },
            ],
            without_pool: Vec::new(),
            alone: vec![holder("10.0.0.30", "a/c", State::Unknown)],
        };
        let text = report.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..6],
            [
                "10.0.0.0-24: 2 addresses of 10.0.0.0/24 in use",
                "  10.0.0.1   a/long-name  net1  worker-1  -",
                "  10.0.0.10  a/b          net1  -         -  GONE: there is no pod a/b",
                "10.1.0.0-24: damaged, so all agents leave it alone: no",
                "reservations without an entry in a pool; their addresses are not assigned either:",
                "  10.0.0.30  a/c          net1  -         -  unknown: there is no pod a/c",
            ]
        );
        assert_eq!(lines[6..], ["1 leaked addresses of pods that are gone. Agents free them."]);
        let json = report.json();
        assert_eq!(json["pools"][0]["capacity"], "254");
        assert_eq!(json["pools"][0]["holders"][1]["state"], "gone");
        assert_eq!(json["pools"][1]["damaged"], "no");
    }
    #[test]
    fn a_pods_name_stays_in_its_row() {
        let report = Report {
            source: "ippools in kube-system".into(),
            remedy: "Agents free them.",
            pools: vec![Pool {
                name: "10.0.0.0-24".into(),
                fill: Ok(("10.0.0.0/24".parse().unwrap(), 1, 254)),
                ranges: Vec::new(),
                holders: vec![holder("10.0.0.1", "a/b\n  10.0.0.2  c/d\u{1b}[1A", State::Gone)],
            }],
            without_pool: Vec::new(),
            alone: Vec::new(),
        };
        let text = report.text();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains(r"a/b\n  10.0.0.2  c/d\u{1b}[1A  net1"), "{text}");
        assert!(report.json().to_string().contains(r"a/b\n  10.0.0.2"), "programs get what is written");
    }
}
