//! ADD: from nothing to a pod that its peers can reach, or back to nothing.

use std::io::ErrorKind;

use ipnet::IpNet;
use octavia_bridge_ipam::flock::Mode;
use octavia_bridge_netlink::{Inside, Link, MacAddress, Namespace, Netlink, NewVeth, VethPeer};

use crate::addressing::{self, Claimed};
use crate::attachment::{Addressing, Attachment, MacSource, check_mtu_for};
use crate::bridge;
use crate::config::Document;
use crate::delegate::Delegate;
use crate::identity;
use crate::pod;
use crate::protocol::error::chain;
use crate::protocol::reply::{self, Reply};
use crate::protocol::result::Interface;
use crate::protocol::{CniResult, Code, Environment, Error};
use crate::record::{AddressingIntent, FORMAT, Intent, LinkIntent, Netns, Outcome, Record, Records, Slot};
use crate::sysctl::{Family, Sysctl};
use crate::teardown::Teardown;

pub(crate) async fn add(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let attachment = Attachment::new(environment, document)?;
    for warning in &attachment.warnings {
        tracing::warn!("{warning}");
    }
    let (inside, pod) = open_netns(environment).await?;
    let netns = inside.namespace();
    let host = Netlink::open().await.map_err(|cause| Error::kernel("open netlink on the node", &cause))?;
    bridge::observe(&host, &attachment).await?;
    if let Addressing::Delegated(program) = &attachment.addressing {
        Delegate::find(program, &environment.path, &document.raw)?;
    }

    let records = Records::new(&attachment.data_dir);
    let mut slot = records.lock(&attachment.owner.container_id, &attachment.owner.ifname)?;
    let teardown = Teardown { host: &host, data_dir: &attachment.data_dir, path: &environment.path };
    let bridge_mac = identity::random_mac();
    let begun = match clear_way(&teardown, netns, &pod, &attachment, &slot).await {
        Ok(()) => begin(&mut slot, &attachment, &inside, &host, bridge_mac, document).await,
        Err(error) => Err(error),
    };
    if let Err(error) = begun {
        // Nothing was done; an empty record would be the only trace.
        if !slot.was_written {
            slot.remove()?;
        }
        return Err(error);
    }
    let work = Work {
        attachment: &attachment,
        host: &host,
        pod: &pod,
        inside: &inside,
        records: &records,
        bridge_mac,
    };
    match work.carry_out(environment, document, &mut slot).await {
        Ok(()) => Ok(Reply::Printed),
        Err(Failed { error, claimed_nothing, linked_nothing }) => {
            if let Some(Record { intent, outcome }) = &mut slot.record {
                // What was not begun is not undone: an IPAM plugin that was never started need not be found, nor a stuck
                // lock be waited for once more, and a bridge that was not touched is somebody else's by now.
                *outcome = None;
                if claimed_nothing {
                    intent.addressing = AddressingIntent::None;
                }
                if linked_nothing {
                    intent.link = None;
                }
            }
            match teardown.end(slot).await {
                Ok(()) => Err(error),
                Err(undo) => {
                    Err(error.with_details(format!("and undoing it failed, DEL will try again: {undo}")))
                }
            }
        }
    }
}

/// A thread in the pod's namespace, and a socket there: entering it proves that it is one.
async fn open_netns(environment: &Environment) -> Result<(Inside, Netlink), Error> {
    let path = environment.netns.as_deref().unwrap_or_default();
    let unusable = |cause: octavia_bridge_netlink::Error| {
        let code = match &cause {
            // With this one the runtime knows that there is nothing to clean up.
            cause if cause.is_not_found() => Code::UnknownContainer,
            octavia_bridge_netlink::Error::Namespace { source, .. } if source.kind() == ErrorKind::Other => {
                Code::InvalidEnvironment
            }
            _ => Code::Kernel,
        };
        Error::new(code, format!("CNI_NETNS {path:?}: {}", chain(&cause)))
    };
    let netns = Namespace::open(path).map_err(unusable)?;
    let own = Namespace::current().map_err(|cause| Error::kernel("identify the node's namespace", &cause))?;
    if netns.identity() == own.identity() && !environment.netns_override {
        return Err(Error::new(
            Code::OwnNamespace,
            format!("CNI_NETNS {path:?} is the namespace this plugin runs in, not a pod's"),
        ));
    }
    let inside = netns.enter().map_err(unusable)?;
    let pod = Netlink::open_inside(&inside).await.map_err(unusable)?;
    Ok((inside, pod))
}

/// An attachment that is complete and alive must not be made twice; what a killed ADD, or a reboot, left of one is
/// removed. Afterwards the interface's name is free in the pod.
async fn clear_way(
    teardown: &Teardown<'_>,
    netns: &Namespace,
    pod: &Netlink,
    attachment: &Attachment,
    slot: &Slot,
) -> Result<(), Error> {
    let (id, ifname) = (&attachment.owner.container_id, &attachment.owner.ifname);
    let alive = match &slot.record {
        Some(record) => record.outcome.is_some() && record.intent.is_in(netns),
        // Written by somebody we do not understand; what he attached is not ours to clear away.
        None => slot.was_written,
    };
    if alive && teardown.has_link(id, ifname).await? {
        return Err(Error::new(
            Code::AlreadyAttached,
            format!("container {id} is already attached as {ifname}"),
        )
        .with_details(format!("DEL it first; its record is {}", slot.path().display())));
    }
    if let Some(record) = &slot.record {
        tracing::warn!("clearing what an earlier ADD of {id} {ifname} left");
        teardown.undo(record).await?;
    }
    match pod.link(ifname.as_str()).await.map_err(|cause| Error::kernel(ifname, &cause))? {
        None => Ok(()),
        Some(_) => Err(Error::new(
            Code::InvalidEnvironment,
            format!("CNI_IFNAME {ifname:?}: {} has an interface of this name already", attachment.netns),
        )
        .with_details("name another, or remove that one")),
    }
}

/// Writes the record: from here on whatever happens can be undone by DEL.
async fn begin(
    slot: &mut Slot,
    attachment: &Attachment,
    inside: &Inside,
    host: &Netlink,
    bridge_mac: MacAddress,
    document: &Document,
) -> Result<(), Error> {
    // Looked at again: what an earlier ADD left may have included the bridge.
    let bridge = bridge::observe(host, attachment).await?;
    let link = LinkIntent {
        bridge: attachment.bridge.clone(),
        bridge_before: bridge::before(host, bridge.as_ref()).await?,
        bridge_mac: bridge_mac.to_string(),
        loopback_ipv6_off: attachment.addressing.may_give_ipv6() && pod::loopback_ipv6_is_off(inside)?,
    };
    slot.begin(Intent {
        version: FORMAT,
        network: attachment.network.clone(),
        container_id: attachment.owner.container_id.clone(),
        ifname: attachment.owner.ifname.clone(),
        netns: Some(Netns::of(&attachment.netns, inside.namespace())),
        link: Some(link),
        addressing: AddressingIntent::of(&attachment.addressing, &document.raw),
    })
}

/// An ADD that did not come to its end.
struct Failed {
    error: Error,
    /// No address was reserved.
    claimed_nothing: bool,
    /// Neither bridge nor pair was touched.
    linked_nothing: bool,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, claimed_nothing: false, linked_nothing: false }
    }
}

/// The part of ADD that changes things; its record is already written.
struct Work<'a> {
    attachment: &'a Attachment,
    host: &'a Netlink,
    pod: &'a Netlink,
    inside: &'a Inside,
    records: &'a Records,
    /// For the bridge, should it have to be made.
    bridge_mac: MacAddress,
}

impl Work<'_> {
    async fn carry_out(
        &self,
        environment: &Environment,
        document: &Document,
        slot: &mut Slot,
    ) -> Result<(), Failed> {
        let attachment = self.attachment;
        let claimed = addressing::claim(attachment, &environment.path, &document.raw).await;
        let Claimed { result: addressing, pools } = claimed.map_err(|failure| Failed {
            error: failure.error,
            claimed_nothing: failure.cleanly,
            linked_nothing: true,
        })?;
        let addresses: Vec<_> = addressing.ips.iter().map(|ip| ip.address).collect();
        let mac = self.mac(&addressing);

        let (bridge, pod_link) = self.make_pair(mac, &addresses).await?;
        pod::settle(self.inside, attachment, &addresses)?;
        let host_link = self.host_link().await?;
        if !attachment.leave_down {
            let wait = bridge::forwarding_wait(&bridge);
            pod::bring_up(self.host, host_link.index, self.pod, pod_link.index, wait).await?;
            pod::add_addresses(self.pod, pod_link.index, &addresses).await?;
            pod::add_routes(self.pod, &pod_link, &addressing.routes).await?;
            if attachment.announce && !addresses.is_empty() {
                pod::announce(self.pod, pod_link.index, mac).await?;
            }
        }
        let bridge = self.verify(bridge.index, pod_link.index, &addresses).await?;
        if let Some(claim) = pools {
            claim.settle().map_err(Error::from)?;
        }
        slot.complete(&Outcome {
            addresses,
            routes: addressing.routes.clone(),
            host_link: host_link.index,
            pod_link: pod_link.index,
            host_mtu: host_link.mtu,
            mtu: pod_link.mtu,
            left_down: attachment.leave_down,
        })?;
        // A runtime that cannot be told does not know what it has, and will not give it back.
        reply::print(&self.result(addressing, &bridge, &host_link, &pod_link).render(attachment.version))?;
        Ok(())
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
    /// the pod's namespace under its final name. No name is ever temporary, no link is ever moved.
    async fn make_pair(&self, mac: MacAddress, addresses: &[IpNet]) -> Result<(Link, Link), Error> {
        let attachment = self.attachment;
        let owner = &attachment.owner;
        let (id, ifname) = (owner.container_id.as_str(), owner.ifname.as_str());
        let mut lock = self.records.lock_bridges(Mode::Shared)?;
        let mut observed = bridge::observe(self.host, attachment).await?;
        if observed.is_none() {
            // Another ADD may be about to make it, or to remove it: only one decides at a time.
            drop(lock);
            lock = self.records.lock_bridges(Mode::Exclusive)?;
            observed = bridge::observe(self.host, attachment).await?;
        }
        let bridge = bridge::ensure(self.host, attachment, observed, self.bridge_mac).await?;
        check_mtu_for(Some(attachment.mtu.unwrap_or(bridge.mtu)), addresses)?;
        let name = identity::host_link(id, ifname);
        self.host
            .create_veth(&NewVeth {
                name: name.clone(),
                mac: Some(identity::host_mac(id, ifname)),
                // The host end keeps the bridge's MTU whatever the pod's is: a bridge shrinks to its smallest port.
                mtu: Some(bridge.mtu),
                alias: Some(identity::alias(id, ifname, owner.pod.as_deref())),
                master: Some(bridge.index),
                up: true,
                peer: VethPeer {
                    name: ifname.into(),
                    mac: Some(mac),
                    mtu: Some(attachment.mtu.unwrap_or(bridge.mtu)),
                    namespace: self.inside.namespace(),
                },
            })
            .await
            .map_err(|cause| {
                Error::kernel(
                    format!("connect {} {ifname} to the bridge {}", attachment.netns, bridge.name),
                    &cause,
                )
            })?;
        drop(lock);
        // The bridge's ports need no address of the node's, and no router's word.
        Sysctl { family: Family::V6, link: name, key: "accept_ra", value: "0", if_present: true }.apply()?;
        let pod_link = self
            .pod
            .link(ifname)
            .await
            .map_err(|cause| Error::kernel(ifname, &cause))?
            .ok_or_else(|| vanished(ifname))?;
        Ok((bridge, pod_link))
    }

    async fn host_link(&self) -> Result<Link, Error> {
        let name = identity::host_link(&self.attachment.owner.container_id, &self.attachment.owner.ifname);
        let link = self.host.link(name.as_str()).await.map_err(|cause| Error::kernel(&name, &cause))?;
        link.ok_or_else(|| vanished(&name))
    }

    /// Reads back what the result is about to claim. Returns the bridge as it is now: one whose MAC nobody pinned may
    /// have taken another with its new port.
    async fn verify(&self, bridge: u32, pod_link: u32, addresses: &[IpNet]) -> Result<Link, Error> {
        let host_link = self.host_link().await?;
        let bridge =
            self.host.link(bridge).await.map_err(|cause| Error::kernel("read back the bridge", &cause))?;
        let bridge = bridge.ok_or_else(|| vanished(&self.attachment.bridge))?;
        if host_link.master != Some(bridge.index) || !host_link.up {
            return Err(Error::new(
                Code::Kernel,
                format!(
                    "{} is no longer an active port of {}: somebody else changed it",
                    host_link.name, bridge.name
                ),
            ));
        }
        let present = self.pod.addresses(pod_link).await;
        let present = present.map_err(|cause| Error::kernel("read back the pod's addresses", &cause))?;
        match addresses.iter().find(|wanted| !present.iter().any(|found| found.address == **wanted)) {
            None => Ok(bridge),
            Some(missing) => Err(Error::new(
                Code::Kernel,
                format!("the pod's address {missing} is gone again: somebody else removed it"),
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
    Error::new(Code::Kernel, format!("{name} vanished right after it was made: somebody else removed it"))
}
