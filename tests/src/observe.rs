//! Links, addresses and routes as iproute2 reports them: a second pair of eyes, independent of the plugin's netlink code.

use std::net::IpAddr;

use serde_json::Value;

use crate::Namespace;

/// A link with its addresses, as `ip -j -d addr show` describes it.
#[derive(Debug, Clone)]
pub struct Link(Value);

/// A route, as `ip -j -d route show table all` describes it.
#[derive(Debug, Clone)]
pub struct Route(Value);

impl Namespace {
    /// All links, loopback included.
    pub fn links(&self) -> Vec<Link> {
        self.ip_json("addr show").into_iter().map(Link).collect()
    }

    /// The link of that name, if there is one.
    pub fn link(&self, name: &str) -> Option<Link> {
        self.links().into_iter().find(|link| link.name() == name)
    }

    /// The link of that name.
    #[track_caller]
    pub fn expect_link(&self, name: &str) -> Link {
        let links = self.links();
        let names: Vec<&str> = links.iter().map(Link::name).collect();
        let text = format!("no link {name} in {} but {names:?}", self.path().display());
        links.iter().find(|link| link.name() == name).unwrap_or_else(|| panic!("{text}")).clone()
    }

    /// Names of all links but the loopback, sorted.
    pub fn link_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.links().iter().map(|link| link.name().to_owned()).collect();
        names.retain(|name| name != "lo");
        names.sort_unstable();
        names
    }

    /// Names of the ports of a bridge, sorted.
    pub fn ports(&self, bridge: &str) -> Vec<String> {
        let mut links = self.links();
        links.retain(|link| link.master() == Some(bridge));
        let mut names: Vec<String> = links.iter().map(|link| link.name().to_owned()).collect();
        names.sort_unstable();
        names
    }

    /// All routes of all tables, without those the kernel keeps for link-local and multicast addresses.
    pub fn routes(&self) -> Vec<Route> {
        let mut routes: Vec<Route> = self.ip_json("route show table all").into_iter().map(Route).collect();
        routes.retain(|route| !["fe80:", "ff00:"].iter().any(|own| route.text("dst").starts_with(own)));
        routes
    }

    /// The unicast routes to a destination as iproute2 writes it: `172.24.0.0/16`, `default`, `10.1.2.3` for a /32.
    pub fn routes_to(&self, destination: &str) -> Vec<Route> {
        let mut routes = self.routes();
        routes.retain(|route| route.text("dst") == destination && route.text("type") == "unicast");
        routes
    }

    /// The one unicast route to a destination.
    #[track_caller]
    pub fn expect_route(&self, destination: &str) -> Route {
        let found = self.routes_to(destination);
        assert_eq!(found.len(), 1, "routes to {destination} among {:#?}", self.routes());
        found[0].clone()
    }
}

impl Link {
    /// The name.
    pub fn name(&self) -> &str {
        self.text("ifname")
    }

    /// The interface index.
    pub fn index(&self) -> u64 {
        self.0["ifindex"].as_u64().unwrap_or_default()
    }

    /// `bridge`, `veth`, `macvlan` … or nothing for a physical link or the loopback.
    pub fn kind(&self) -> &str {
        self.0["linkinfo"]["info_kind"].as_str().unwrap_or_default()
    }

    /// Administratively up.
    pub fn is_up(&self) -> bool {
        self.has_flag("UP")
    }

    /// Whether `ip` prints this flag, for example `PROMISC`.
    pub fn has_flag(&self, flag: &str) -> bool {
        self.0["flags"].as_array().is_some_and(|flags| flags.iter().any(|f| f == flag))
    }

    /// `UP`, `DOWN`, `LOWERLAYERDOWN` …
    pub fn operational_state(&self) -> &str {
        self.text("operstate")
    }

    /// The MTU in bytes.
    pub fn mtu(&self) -> u64 {
        self.0["mtu"].as_u64().unwrap_or_default()
    }

    /// The MAC address, lower-case with colons.
    pub fn mac(&self) -> &str {
        self.text("address")
    }

    /// The bridge this link is a port of.
    pub fn master(&self) -> Option<&str> {
        self.0["master"].as_str()
    }

    /// The alias (`IFLA_IFALIAS`), empty without one.
    pub fn alias(&self) -> &str {
        self.text("ifalias")
    }

    /// A value of the port, for example `state` or `hairpin`.
    pub fn port(&self, key: &str) -> &Value {
        &self.0["linkinfo"]["info_slave_data"][key]
    }

    /// Addresses with prefix length, sorted, without the kernel's link-local ones.
    pub fn addresses(&self) -> Vec<String> {
        let mut list: Vec<String> = self
            .assigned()
            .map(|a| format!("{}/{}", bare(a), a["prefixlen"].as_u64().unwrap_or(0)))
            .collect();
        list.sort_unstable();
        list
    }

    /// The record of one assigned address, with keys such as `tentative`, `nodad` and `broadcast`.
    #[track_caller]
    pub fn expect_address(&self, address: impl Into<IpAddr>) -> Value {
        let wanted = address.into().to_string();
        let found = self.assigned().find(|a| bare(a) == wanted);
        found.unwrap_or_else(|| panic!("no {wanted} on {}: {:?}", self.name(), self.addresses())).clone()
    }

    fn assigned(&self) -> impl Iterator<Item = &Value> {
        let all = self.0["addr_info"].as_array().map_or(&[][..], Vec::as_slice);
        all.iter().filter(|a| !bare(a).starts_with("fe80:"))
    }

    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// One line with everything that a change by the plugin could show in, and nothing that changes by itself:
    /// no index, no timers, no operational state (which follows the other end a moment later).
    pub(crate) fn line(&self) -> String {
        let up = if self.is_up() { "up" } else { "down" };
        let mut line =
            format!("link {} {} {up} mtu {} mac {}", self.name(), self.kind(), self.mtu(), self.mac());
        if let Some(master) = self.master() {
            let flags = ["hairpin", "isolated", "learning", "flood"].map(|f| format!("{f}={}", self.port(f)));
            line += &format!(" port of {master} {}", flags.join(" "));
        }
        if self.has_flag("PROMISC") {
            line += " promiscuous";
        }
        if !self.alias().is_empty() {
            line += &format!(" alias {:?}", self.alias());
        }
        line
    }
}

impl Route {
    /// The gateway, empty for a route on the link.
    pub fn gateway(&self) -> &str {
        self.text("gateway")
    }

    /// The metric; IPv4 has 0 unless one is given, IPv6 1024.
    pub fn metric(&self) -> u64 {
        self.0["metric"].as_u64().unwrap_or_default()
    }

    /// The table's number or name, `main` for 254.
    pub fn table(&self) -> &str {
        self.text("table")
    }

    /// `global`, `link`, `host` or a number.
    pub fn scope(&self) -> &str {
        self.text("scope")
    }

    /// A metric of the route (RTAX), for example `mtu` or `advmss`.
    pub fn option(&self, key: &str) -> u64 {
        self.0["metrics"][0][key].as_u64().unwrap_or_default()
    }

    /// The gateways of all next hops, sorted.
    pub fn next_hops(&self) -> Vec<&str> {
        let mut hops: Vec<&str> = match self.0["nexthops"].as_array() {
            Some(hops) => hops.iter().filter_map(|hop| hop["gateway"].as_str()).collect(),
            None => vec![self.gateway()],
        };
        hops.sort_unstable();
        hops
    }

    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    pub(crate) fn line(&self) -> String {
        let mut words = vec!["route".to_owned()];
        for key in ["type", "dst", "gateway", "dev", "table", "protocol", "scope", "prefsrc"] {
            if !self.text(key).is_empty() {
                words.push(format!("{key} {}", self.text(key)));
            }
        }
        words.push(format!("metric {} {} {}", self.metric(), self.0["metrics"], self.0["nexthops"]));
        words.join(" ")
    }
}

fn bare(address: &Value) -> &str {
    address["local"].as_str().unwrap_or_default()
}
