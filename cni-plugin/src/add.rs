//! ADD: from nothing to a pod that its peers can reach, or back to nothing.

mod work;

use std::io::ErrorKind;

use octavia_bridge_ipam::causes::chain;
use octavia_bridge_ipam::request::Owner;
use octavia_bridge_netlink::{Inside, Link, MacAddress, Namespace, Netlink};

use crate::attachment::{Addressing, Attachment};
use crate::bridge;
use crate::config::Document;
use crate::delegate::Delegate;
use crate::identity;
use crate::life;
use crate::log;
use crate::namesake;
use crate::patience;
use crate::pod;
use crate::policy;
use crate::protocol::reply::Reply;
use crate::protocol::{Code, Environment, Error};
use crate::record::{AddressingIntent, FORMAT, Intent, LinkIntent, Netns, Record, Records, Slot};
use crate::sysctl;
use crate::takeover;
use crate::teardown::Teardown;
use work::{Failed, Work};

pub(crate) async fn add(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let added = attach(environment, document).await;
    if added.is_err() {
        namesake::leave_trace(environment, document);
    }
    added
}

async fn attach(environment: &Environment, document: &Document) -> Result<Reply, Error> {
    let mut attachment = Attachment::new(environment, document)?;
    log::warn_of(&attachment.warnings);
    if let Addressing::Pool(pool) = &attachment.addressing {
        pool.require_pod()?;
        pod::check_next_hops(&pool.ipam.routes)?;
    }
    sysctl::require_kernel_for(&attachment.addressing.known_addresses())?;
    let host = Netlink::open().await.map_err(|cause| Error::kernel("open netlink on the node", &cause))?;
    let host = host.without_link_options();
    let (inside, pod) = open_netns(environment, host.namespace()).await?;
    let netns = inside.namespace();
    // Before anything is locked or begun: this may take a while.
    if let Some(bridge) = policy::awaited(&host, &attachment).await? {
        // The runtime may kill this process meanwhile.
        namesake::leave_trace(environment, document);
        bridge.arrival(&host, &attachment).await?;
    }
    let bridge = bridge::observe(&host, &attachment).await?;
    spare_bridge(&host, &mut attachment, bridge.as_ref()).await?;
    if let Addressing::Delegated(program) = &attachment.addressing {
        Delegate::find(program, &environment.path, &document.raw)?;
    }

    let claims = matches!(&attachment.addressing, Addressing::Pool(pool) if pool.store.is_file());
    takeover::take_over(&attachment.data_dir, claims)?;
    let records = Records::new(&attachment.data_dir);
    let mut slot = records.lock(&attachment.owner.container_id, &attachment.owner.ifname)?;
    let teardown = Teardown::new(&host, &attachment.data_dir, &environment.path);
    let bridge_mac = identity::random_mac();
    let begun = match clear_way(&teardown, netns, &pod, &attachment, &slot).await {
        Ok(()) => begin(&mut slot, &attachment, &inside, &host, bridge, bridge_mac, document).await,
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
        Ok(()) => {
            // Taken along by the end of the process, as the event loop is: a thread that has to be woken to end, sockets.
            std::mem::forget((slot, inside, pod, host));
            Ok(Reply::Printed)
        }
        Err(Failed { error, claimed_nothing, linked_nothing }) => {
            if let Some(Record { intent, .. }) = &mut slot.record {
                // What was not begun is not undone: an IPAM plugin that was never started need not be found, nor a stuck
                // lock be waited for once more, and a bridge that was not touched is somebody else's by now.
                if claimed_nothing {
                    intent.addressing = AddressingIntent::None;
                }
                if linked_nothing {
                    intent.link = None;
                }
            }
            patience::undo();
            match teardown.end(slot).await {
                Ok(()) => Err(error),
                Err(undo) => {
                    Err(error.with_details(format!("and undoing it failed, DEL will try again: {undo}")))
                }
            }
        }
    }
}

/// No pod gets an address that the bridge has.
async fn spare_bridge(
    host: &Netlink,
    attachment: &mut Attachment,
    bridge: Option<&Link>,
) -> Result<(), Error> {
    let (Addressing::Pool(pool), Some(bridge)) = (&mut attachment.addressing, bridge) else { return Ok(()) };
    let present = host.addresses(bridge.index).await;
    let present = present.map_err(|cause| Error::kernel("look for the bridge's addresses", &cause))?;
    let addresses: Vec<_> = present.iter().map(|address| address.address.addr()).collect();
    pool.spare(&bridge.name, &addresses)
}

/// A thread in the pod's namespace, and a socket there: entering it proves that it is one.
async fn open_netns(environment: &Environment, own: &Namespace) -> Result<(Inside, Netlink), Error> {
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
    if netns.identity() == own.identity() && !environment.netns_override {
        return Err(Error::new(
            Code::OwnNamespace,
            format!("CNI_NETNS {path:?} is the namespace this plugin runs in, not a pod's"),
        ));
    }
    Netlink::open_with_thread(&netns).await.map_err(unusable)
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
        Some(Record { intent, outcome: Some(outcome) }) if !intent.is_in(netns) => {
            life::pair_stays(intent, Some(outcome))
        }
        Some(record) => record.outcome.is_some() && teardown.has_link(id, ifname).await?,
        // Written by somebody we do not understand; what he attached is not ours to clear away.
        None => slot.was_written && teardown.has_link(id, ifname).await?,
    };
    if alive {
        return Err(already_attached(attachment, slot));
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

fn already_attached(attachment: &Attachment, slot: &Slot) -> Error {
    let Owner { container_id, ifname, .. } = &attachment.owner;
    let netns = slot.record.as_ref().and_then(|record| record.intent.netns.as_ref());
    let place = netns.filter(|netns| netns.path != attachment.netns);
    let place = place.map(|netns| format!(" in {}", netns.path)).unwrap_or_default();
    let text = format!("container {container_id} is already attached as {ifname}{place}");
    let details = format!("DEL it first; its record is {}", slot.path().display());
    Error::new(Code::AlreadyAttached, text).with_details(details)
}

/// Writes the record: from here on whatever happens can be undone by DEL.
async fn begin(
    slot: &mut Slot,
    attachment: &Attachment,
    inside: &Inside,
    host: &Netlink,
    bridge: Option<Link>,
    bridge_mac: MacAddress,
    document: &Document,
) -> Result<(), Error> {
    let bridge = match &slot.record {
        None => bridge,
        // Looked at again: what an earlier ADD left may have included the bridge.
        Some(_) => bridge::observe(host, attachment).await?,
    };
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
        pod_uid: attachment.pod_uid.clone(),
        link: Some(link),
        addressing: AddressingIntent::of(&attachment.addressing, &document.raw),
    })
}
