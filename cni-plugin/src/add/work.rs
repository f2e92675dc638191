//! The part of ADD that changes things: addresses, links, settings, routes, announcement, result.

use ipnet::IpNet;
use nix::errno::Errno;
use octavia_bridge_ipam::file::Claim;
use octavia_bridge_ipam::flock::Mode;
use octavia_bridge_netlink::{
    Inside, Link, LinkChange, MacAddress, Netlink, NewVeth, PortFlags, VethPeer, VlanRange,
};

use crate::addressing::{self, Claimed};
use crate::attachment::{Addressing, Attachment, MacSource, check_mtu_for};
use crate::bridge;
use crate::config::Document;
use crate::identity;
use crate::patience;
use crate::pod;
use crate::policy;
use crate::port_vlans;
use crate::protocol::reply;
use crate::protocol::result::Interface;
use crate::protocol::{CniResult, Code, Environment, Error};
use crate::record::{Outcome, Records, Slot};
use crate::sysctl::Sysctl;

/// An ADD that did not come to its end.
pub(super) struct Failed {
    pub(super) error: Error,
    /// No address was reserved.
    pub(super) claimed_nothing: bool,
    /// Neither bridge nor pair was touched.
    pub(super) linked_nothing: bool,
}

impl Failed {
    fn claimed_nothing(error: Error) -> Self {
        Self { error, claimed_nothing: true, linked_nothing: false }
    }
}

/// What connects the pod.
struct Pair {
    bridge: Link,
    pod_link: Link,
    /// Of the bridge port, once they are set.
    vlans: Option<Vec<VlanRange>>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, claimed_nothing: false, linked_nothing: false }
    }
}

/// The part of ADD that changes things; its record is already written.
pub(super) struct Work<'a> {
    pub(super) attachment: &'a Attachment,
    pub(super) host: &'a Netlink,
    pub(super) pod: &'a Netlink,
    pub(super) inside: &'a Inside,
    pub(super) records: &'a Records,
    /// For the bridge, should it have to be made.
    pub(super) bridge_mac: MacAddress,
}

impl Work<'_> {
    pub(super) async fn carry_out(
        &self,
        environment: &Environment,
        document: &Document,
        slot: &mut Slot,
    ) -> Result<(), Failed> {
        let attachment = self.attachment;
        // Other programs are given the interface they give addresses to: a DHCP client has to send from it.
        let early = match attachment.addressing {
            Addressing::Delegated(_) => Some(self.make_early_pair().await.map_err(Failed::claimed_nothing)?),
            _ => None,
        };
        let claimed = addressing::claim(attachment, &environment.path, &document.raw);
        let Claimed { result: addressing, pools } = claimed.map_err(|failure| Failed {
            error: failure.error,
            claimed_nothing: failure.cleanly,
            linked_nothing: early.is_none(),
        })?;
        // From here on somebody may use the addresses.
        pools.map_or(Ok(()), Claim::hold).map_err(|cause| Failed {
            error: cause.into(),
            claimed_nothing: false,
            linked_nothing: early.is_none(),
        })?;
        let addresses: Vec<_> = addressing.ips.iter().map(|ip| ip.address).collect();
        let mac = self.mac(&addressing);

        let Pair { bridge, pod_link, vlans } = match early {
            Some(pair) => self.fit_to_addresses(pair, mac, &addresses).await?,
            None => self.make_pair(mac, &addresses).await?,
        };
        let mac = pod_link.mac.unwrap_or(mac);
        let settings = pod::settings(attachment, &addresses);
        self.inside(|| settings.into_iter().try_for_each(Sysctl::apply))?;
        let vlans = match vlans {
            Some(vlans) => vlans,
            None => self.set_vlans(&bridge).await?,
        };
        pod::bring_up(self.pod, pod_link.index, attachment).await?;
        let host_link = if attachment.leave_down {
            self.host_link().await?
        } else {
            let wait = patience::within(bridge::forwarding_wait(&bridge));
            let host_link = pod::await_forwarding(self.host, &self.host_link_name(), wait).await?;
            pod::add_addresses(self.pod, pod_link.index, &addresses).await?;
            pod::add_routes(self.pod, &pod_link, &addressing.routes).await?;
            if attachment.announce && !addresses.is_empty() {
                pod::announce(self.pod, pod_link.index, mac).await?;
            }
            host_link
        };
        let bridge = self.verify(bridge.index, &host_link, pod_link.index, &addresses, &vlans).await?;
        if addresses.iter().any(|address| matches!(address, IpNet::V6(_))) {
            // Late, since a worker of the kernel joins the groups of an address a moment after it is there.
            let newest = pod::multicast_listener(&pod_link.name, "0");
            self.inside(|| newest.apply())?;
        }
        slot.complete(&Outcome {
            addresses,
            routes: addressing.routes.clone(),
            host_link: host_link.index,
            pod_link: pod_link.index,
            host_mtu: host_link.mtu,
            mtu: pod_link.mtu,
            left_down: attachment.leave_down,
            port_vlans: vlans.into_iter().map(Into::into).collect(),
        })?;
        // A runtime that cannot be told does not know what it has, and will not give it back.
        reply::print(&self.result(addressing, &bridge, &host_link, &pod_link).render(attachment.version))?;
        Ok(())
    }

    /// The pair before there are addresses, as the reference plugin shows it to its IPAM plugins: the host's end is up and has its
    /// VLANs, the pod's end is down.
    async fn make_early_pair(&self) -> Result<Pair, Error> {
        let owner = &self.attachment.owner;
        let mac = match self.attachment.mac {
            MacSource::Given(mac) => mac,
            MacSource::Random => identity::random_mac(),
            MacSource::FromAddress => identity::mac_for_attachment(&owner.container_id, &owner.ifname),
        };
        let pair = self.make_pair(mac, &[]).await?;
        let settings = pod::settings(self.attachment, &[]);
        self.inside(|| settings.into_iter().try_for_each(Sysctl::apply))?;
        let vlans = Some(self.set_vlans(&pair.bridge).await?);
        Ok(Pair { vlans, ..pair })
    }

    /// Gives the pod's end the MAC that goes with its addresses, unless the IPAM plugin has brought it up: then the network, and
    /// a DHCP server's lease, know the one it has.
    async fn fit_to_addresses(
        &self,
        pair: Pair,
        mac: MacAddress,
        addresses: &[IpNet],
    ) -> Result<Pair, Error> {
        let ifname = self.attachment.owner.ifname.as_str();
        check_mtu_for(Some(pair.pod_link.mtu), addresses)?;
        let pod_link = self.pod_link().await?;
        let derived = self.attachment.mac == MacSource::FromAddress;
        if pod_link.up || !derived || pod_link.mac == Some(mac) {
            return Ok(Pair { pod_link, ..pair });
        }
        let change = LinkChange { mac: Some(mac), ..LinkChange::default() };
        let changed = self.pod.change_link(pod_link.index, &change).await;
        changed.map_err(|cause| Error::kernel(format!("give {ifname} its MAC"), &cause))?;
        Ok(Pair { pod_link: Link { mac: Some(mac), ..pod_link }, ..pair })
    }

    async fn set_vlans(&self, bridge: &Link) -> Result<Vec<VlanRange>, Error> {
        match &self.attachment.port_vlans {
            Some(vlans) => port_vlans::set(self.host, vlans, bridge, &self.host_link().await?).await,
            None => Ok(Vec::new()),
        }
    }

    /// Has `f` called on the thread inside the namespace, and waits for it.
    fn inside(&self, f: impl FnOnce() -> Result<(), Error> + Send + 'static) -> Result<(), Error> {
        let outcome = self.inside.run(f);
        outcome.map_err(|cause| Error::kernel(&self.attachment.netns, &cause))?
    }

    fn mac(&self, addressing: &CniResult) -> MacAddress {
        let owner = &self.attachment.owner;
        match (self.attachment.mac, addressing.ips.first()) {
            (MacSource::Given(mac), _) => mac,
            (MacSource::Random, _) => identity::random_mac(),
            (MacSource::FromAddress, Some(ip)) => identity::mac_for_address(ip.address.addr()),
            (MacSource::FromAddress, None) => {
                identity::mac_for_attachment(&owner.container_id, &owner.ifname)
            }
        }
    }

    /// Makes sure of the bridge and makes the pair in one message: host end in the bridge and up, pod end born in
    /// the pod's namespace under its final name. No name is ever temporary, no link is ever moved. Only a port that
    /// shall have VLANs stays down until it has them.
    async fn make_pair(&self, mac: MacAddress, addresses: &[IpNet]) -> Result<Pair, Error> {
        let attachment = self.attachment;
        let owner = &attachment.owner;
        let (id, ifname) = (owner.container_id.as_str(), owner.ifname.as_str());
        let mut lock = self.records.lock_bridges(Mode::Shared)?;
        let mut observed = bridge::observe(self.host, attachment).await?;
        while observed.is_none() {
            // Another ADD may be about to make it, or to remove it: only one decides at a time.
            drop(lock);
            lock = self.records.lock_bridges(Mode::Exclusive)?;
            observed = bridge::observe(self.host, attachment).await?;
            if observed.is_some() || !policy::names_bridge(attachment)? {
                break;
            }
            // A policy has come since this ADD looked first, and with it somebody who makes the bridge.
            drop(lock);
            if let Some(bridge) = policy::awaited(self.host, attachment).await? {
                bridge.arrival(self.host, attachment).await?;
            }
            lock = self.records.lock_bridges(Mode::Shared)?;
            observed = bridge::observe(self.host, attachment).await?;
        }
        let bridge = bridge::ensure(self.host, attachment, observed, self.bridge_mac).await?;
        check_mtu_for(Some(attachment.mtu.unwrap_or(bridge.mtu)), addresses)?;
        self.host
            .create_veth(&NewVeth {
                name: identity::host_link(id, ifname),
                mac: Some(identity::host_mac(id, ifname)),
                // The host end keeps the bridge's MTU whatever the pod's is: a bridge shrinks to its smallest port.
                mtu: Some(bridge.mtu),
                alias: Some(identity::alias(id, ifname, owner.pod.as_deref())),
                master: Some(bridge.index),
                up: attachment.port_vlans.is_none(),
                // What arrives at a port is the bridge's, a router's word as well: the port needs no address.
                link_local: false,
                // A pod that takes part in the spanning tree loses its port, and not the network its tree.
                port: PortFlags { bpdu_guard: Some(true), ..PortFlags::default() },
                peer: VethPeer {
                    name: ifname.into(),
                    mac: Some(mac),
                    mtu: Some(attachment.mtu.unwrap_or(bridge.mtu)),
                    namespace: self.inside.namespace(),
                },
            })
            .await
            .map_err(|cause| {
                if cause.errno() == Some(Errno::EXFULL as i32) {
                    return bridge::full(&bridge.name);
                }
                Error::kernel(
                    format!("connect {} {ifname} to the bridge {}", attachment.netns, bridge.name),
                    &cause,
                )
            })?;
        drop(lock);
        Ok(Pair { bridge, pod_link: self.pod_link().await?, vlans: None })
    }

    async fn pod_link(&self) -> Result<Link, Error> {
        let ifname = self.attachment.owner.ifname.as_str();
        let link = self.pod.link(ifname).await.map_err(|cause| Error::kernel(ifname, &cause))?;
        link.ok_or_else(|| vanished(ifname))
    }

    fn host_link_name(&self) -> String {
        identity::host_link(&self.attachment.owner.container_id, &self.attachment.owner.ifname)
    }

    async fn host_link(&self) -> Result<Link, Error> {
        let name = self.host_link_name();
        let link = self.host.link(name.as_str()).await.map_err(|cause| Error::kernel(&name, &cause))?;
        link.ok_or_else(|| vanished(&name))
    }

    /// Reads back what the result is about to claim. Returns the bridge as it is now: one whose MAC nobody pinned may
    /// have taken another with its new port.
    async fn verify(
        &self,
        bridge: u32,
        host_link: &Link,
        pod_link: u32,
        addresses: &[IpNet],
        vlans: &[VlanRange],
    ) -> Result<Link, Error> {
        let bridge =
            self.host.link(bridge).await.map_err(|cause| Error::kernel("read back the bridge", &cause))?;
        let bridge = bridge.ok_or_else(|| vanished(&self.attachment.bridge))?;
        if host_link.master != Some(bridge.index) || !host_link.up {
            return Err(Error::new(
                Code::Kernel,
                format!(
                    "{} is no longer an active port of {}: another program changed it",
                    host_link.name, bridge.name
                ),
            ));
        }
        if !vlans.is_empty()
            && let Some(what) = port_vlans::difference(self.host, vlans, &bridge, host_link).await?
        {
            return Err(Error::new(Code::Kernel, format!("{what}: another program changed it")));
        }
        let present = self.pod.addresses(pod_link).await;
        let present = present.map_err(|cause| Error::kernel("read back the pod's addresses", &cause))?;
        match addresses.iter().find(|wanted| !present.iter().any(|found| found.address == **wanted)) {
            None => Ok(bridge),
            Some(missing) => Err(Error::new(
                Code::Kernel,
                format!("the pod's address {missing} is gone: another program removed it"),
            )),
        }
    }

    /// Interfaces in the reference plugin's order: bridge, host end, pod end; addresses belong to the third.
    fn result(
        &self,
        mut addressing: CniResult,
        bridge: &Link,
        host_link: &Link,
        pod_link: &Link,
    ) -> CniResult {
        let describe = |link: &Link, sandbox: Option<String>| Interface {
            name: link.name.clone(),
            mac: link.mac.map(|mac| mac.to_string()),
            mtu: Some(link.mtu),
            sandbox,
            ..Interface::default()
        };
        addressing.interfaces = vec![
            describe(bridge, None),
            describe(host_link, None),
            describe(pod_link, Some(self.attachment.netns.clone())),
        ];
        for ip in &mut addressing.ips {
            ip.interface = Some(2);
        }
        match &self.attachment.previous {
            Some(previous) => addressing.after(previous.clone()),
            None => addressing,
        }
    }
}

fn vanished(name: &str) -> Error {
    Error::new(
        Code::Kernel,
        format!("{name} vanished right after the plugin created it: another program removed it"),
    )
}
