//! One step, as requests to the kernel.

mod bond;
mod routes;

use nl::{
    BridgeOptions, LinkChange, LinkKind, LinkOption, LinkOptions, MacAddress, Netlink, NewBridge, NewVlan,
    NewVrf,
};
use octavia_bridge_ipam::causes::chain;
use octavia_bridge_netlink as nl;

use crate::node::observed::{self, Address, Kind, Setting, write_ipv6};
use crate::node::plan::{NewLink, Planned, Step};

/// Smallest MTU of a bridge (`ETH_MIN_MTU`), in bytes.
const SMALLEST_MTU: u32 = 68;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Netlink(#[from] nl::Error),
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// A name that was there when the plan was made.
    #[error("link {0} does not exist")]
    Gone(String),
    /// Refused before anything was asked of the kernel.
    #[error("{0}")]
    Refused(String),
    /// A link that was made, could not be completed, and could not be removed again.
    #[error("{cause}; {name} is half made and cannot be removed")]
    HalfMade {
        name: String,
        cause: String,
        #[source]
        source: nl::Error,
    },
}

impl Error {
    /// Nothing was done: the kernel refused it, or was not even asked.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Netlink(error) => matches!(error, nl::Error::Refused { .. } | nl::Error::Invalid { .. }),
            Self::File(_) | Self::Gone(_) | Self::Refused(_) => true,
            Self::HalfMade { .. } => false,
        }
    }

    /// Since the plan was made, somebody else has made what it was to make, or taken away what it needs.
    pub(crate) fn is_outdated(&self) -> bool {
        match self {
            Self::Netlink(error) => error.is_exists() || error.is_not_found(),
            Self::File(error) => error.kind() == std::io::ErrorKind::NotFound,
            Self::Gone(_) => true,
            Self::Refused(_) | Self::HalfMade { .. } => false,
        }
    }
}

/// Carries out one step. Returns whether there was anything to do: what is to be removed may be gone already.
///
/// # Errors
/// The kernel's; a link half made is removed again.
pub(crate) async fn take(netlink: &Netlink, step: &Step) -> Result<bool, Error> {
    let name = step.link().unwrap_or_default();
    let change = async |change: LinkChange| Ok(netlink.change_link(name, &change).await?);
    let done = match step {
        Step::Create(new) => create(netlink, new).await,
        Step::Delete(new) => return delete(netlink, &new.name).await,
        Step::SetUp { up, .. } => change(LinkChange { up: Some(*up), ..LinkChange::default() }).await,
        Step::SetMtu { mtu, .. } => change(LinkChange { mtu: Some(*mtu), ..LinkChange::default() }).await,
        Step::SetMac { mac, .. } => {
            change(LinkChange { mac: Some(parse_mac(mac)?), ..LinkChange::default() }).await
        }
        Step::SetMaster { master, .. } => {
            let master = match master {
                Some(master) => Some(index(netlink, master).await?),
                None => None,
            };
            change(LinkChange { master: Some(master), ..LinkChange::default() }).await
        }
        Step::SetAlias { alias, .. } => {
            change(LinkChange { alias: Some(alias.clone()), ..LinkChange::default() }).await
        }
        Step::SetStp { on: stp, .. } => {
            let options = BridgeOptions { stp: Some(*stp), ..BridgeOptions::default() };
            Ok(netlink.change_bridge(index(netlink, name).await?, &options).await?)
        }
        Step::SetOption { option, value, .. } => set_option(netlink, name, *option, *value).await,
        Step::SetPortVlans { vlans, .. } => {
            Ok(netlink.set_port_vlans(index(netlink, name).await?, vlans).await?)
        }
        Step::SetBond { option, value, .. } => bond::set(netlink, name, option, value).await,
        Step::SetIpv6 { setting, on, .. } => Ok(write_ipv6(name, *setting, *on)?),
        Step::AddAddress { address, detail, .. } => {
            let address = Address { net: *address, detail: detail.clone() };
            Ok(netlink.restore_address(index(netlink, name).await?, &address.wire(name)).await?)
        }
        Step::RemoveAddress { address, .. } => {
            return Ok(netlink.delete_address(index(netlink, name).await?, *address).await?);
        }
        Step::AddRoute(route) => routes::add(netlink, route).await,
        Step::RemoveRoute(route) => return routes::remove(netlink, route).await,
    };
    done.map(|()| true)
}

/// The index of the link that a step is about to act on.
///
/// # Errors
/// Those of reading.
pub(crate) async fn index_of(netlink: &Netlink, step: &Step) -> Result<Option<u32>, Error> {
    match step {
        Step::Create(_) | Step::AddRoute(_) | Step::RemoveRoute(_) => Ok(None),
        other => Ok(netlink.link(other.link().unwrap_or_default()).await?.map(|link| link.index)),
    }
}

/// Carries out a step that gives back what was there before, also where it could not be made anew.
///
/// # Errors
/// The kernel's.
pub(crate) async fn give_back(netlink: &Netlink, step: &Step) -> Result<bool, Error> {
    match step {
        Step::AddRoute(route) => routes::give_back(netlink, route).await.map(|()| true),
        other => take(netlink, other).await,
    }
}

/// Takes back a step that may not have been done at all. What has become another's since, and what somebody else has
/// changed again, stays as it is.
///
/// # Errors
/// The kernel's.
pub(crate) async fn take_back(netlink: &Netlink, planned: &Planned) -> Result<(), Error> {
    if let Some(other) = others_by_now(netlink, planned).await? {
        tracing::info!("not taken back, since {other}: {}", planned.apply);
        return Ok(());
    }
    for step in planned.undoing() {
        let result = match step {
            Step::Delete(new) => delete_made(netlink, new).await,
            other => carry_out_alone(netlink, other).await,
        };
        match result {
            // It is so already, or what it is about is gone.
            Err(error) if error.is_outdated() => {
                tracing::debug!("nothing to take back: {}", chain(&error));
            }
            // No request can express the inverse, so none has expressed the step.
            Err(Error::Netlink(nl::Error::Invalid { .. })) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Carries out one step, and gives back what the kernel takes along with it: others may have put it there since.
async fn carry_out_alone(netlink: &Netlink, step: &Step) -> Result<(), Error> {
    let mut owed = Vec::new();
    if step.may_take_along() {
        let now = observed::read(netlink).await?;
        for taken in now.taken_along(step) {
            let planned = taken.planned(&now);
            take(netlink, &planned.apply).await?;
            owed.push(planned.undo);
        }
    }
    let result = give_back(netlink, step).await.map(|_| ());
    for step in owed.iter().rev() {
        match give_back(netlink, step).await {
            Err(error) if !error.is_outdated() => tracing::warn!("{step}: {}", chain(&error)),
            _ => {}
        }
    }
    result
}

/// Why what a step has changed is not as the step left it, if that is so.
async fn others_by_now(netlink: &Netlink, planned: &Planned) -> Result<Option<String>, Error> {
    let name = planned.apply.link().unwrap_or_default();
    if name.is_empty() || matches!(planned.apply, Step::Create(_) | Step::Delete(_)) {
        return Ok(None);
    }
    let Some(link) = netlink.link(name).await? else { return Ok(Some(format!("{name} is gone"))) };
    if planned.index.is_some_and(|index| index != link.index) {
        return Ok(Some(format!("{name} is another link now")));
    }
    let as_left = match &planned.apply {
        Step::SetUp { up, .. } => link.up == *up,
        Step::SetMtu { mtu, .. } => link.mtu == *mtu,
        Step::SetMac { mac, .. } => link.mac.is_some_and(|now| now.to_string() == *mac),
        Step::SetMaster { master: None, .. } => link.master.is_none(),
        Step::SetMaster { master: Some(master), .. } => {
            let master = netlink.link(master).await?.map(|master| master.index);
            master.is_some() && link.master == master
        }
        Step::SetAlias { alias, .. } => link.alias.as_deref().unwrap_or_default() == alias,
        Step::SetOption { option, value, .. } => {
            link.options.get(option).map_or(option.is_of_tree(), |now| option.is_same(*now, *value))
        }
        Step::SetBond { option, value, .. } => bond::has(netlink, &link, option, value).await?,
        _ => true,
    };
    Ok((!as_left).then(|| format!("{name} was changed again")))
}

/// A cost that is written, if only as it is, does not follow the link's speed any more.
async fn set_option(netlink: &Netlink, name: &str, option: LinkOption, value: u64) -> Result<(), Error> {
    let link = netlink.link(name).await?.ok_or_else(|| Error::Gone(name.to_owned()))?;
    if link.options.get(&option).is_some_and(|now| option.is_same(*now, value)) {
        return Ok(());
    }
    Ok(netlink.set_link_options(link.index, &LinkOptions::from([(option, value)])).await?)
}

async fn index(netlink: &Netlink, name: &str) -> Result<u32, Error> {
    Ok(netlink.link(name).await?.ok_or_else(|| Error::Gone(name.to_owned()))?.index)
}

fn parse_mac(mac: &str) -> Result<MacAddress, Error> {
    mac.parse().map_err(|error| Error::Refused(format!("{error}")))
}

async fn create(netlink: &Netlink, new: &NewLink) -> Result<(), Error> {
    let name = new.name.clone();
    let mac = new.mac.as_deref().map(parse_mac).transpose()?;
    // The creating message cannot carry an alias; it goes with what else is left to be said.
    let group = new.token;
    let mut later = LinkChange { alias: new.alias.clone(), group: group.map(|_| 0), ..LinkChange::default() };
    match &new.kind {
        Kind::Bridge { stp } => {
            later.mtu = new.mtu;
            let options = BridgeOptions {
                stp: Some(*stp),
                most_learned: Some(BridgeOptions::MOST_LEARNED),
                ..BridgeOptions::default()
            };
            // Another MTU first: only one that is *changed* after creation counts as the administrator's
            // (`br_change_mtu`, which `dev_set_mtu` does not call for the value there is), and
            // any other follows the smallest port.
            let mtu = new.mtu.map(|mtu| if mtu > SMALLEST_MTU { mtu - 1 } else { mtu + 1 });
            netlink
                .create_bridge(&NewBridge {
                    name,
                    mac,
                    mtu,
                    group,
                    options,
                    // Whether it has IPv6 at all, the policy says, which may want just this address.
                    link_local: true,
                    ..NewBridge::default()
                })
                .await?;
        }
        Kind::Vlan { base, id } => {
            let parent = index(netlink, base).await?;
            netlink
                .create_vlan(&NewVlan { name, parent, id: *id, mtu: new.mtu, group, ..NewVlan::default() })
                .await?;
            later.mac = mac;
        }
        Kind::Vrf { table } => {
            netlink
                .create_vrf(&NewVrf { name, table: *table, mtu: new.mtu, group, ..NewVrf::default() })
                .await?;
            later.mac = mac;
        }
        Kind::Bond { options } => bond::create(netlink, new, mac, options).await?,
        other => return Err(Error::Refused(format!("no link of type {} can be made", other.word()))),
    }
    let Some(link) = netlink.link(&new.name).await?.filter(|link| is_half_made(new, link)) else {
        return Err(Error::Gone(new.name.clone()));
    };
    let Err(cause) = complete(netlink, link.index, new, &later).await else { return Ok(()) };
    match netlink.delete_link(link.index).await {
        Ok(_) => Err(cause),
        Err(source) => {
            let cause = chain(&cause);
            Err(Error::HalfMade { name: new.name.clone(), cause, source })
        }
    }
}

/// What the creating message cannot carry, before the link is up.
async fn complete(netlink: &Netlink, index: u32, new: &NewLink, later: &LinkChange) -> Result<(), Error> {
    netlink.change_link(index, later).await?;
    netlink.set_link_options(index, &new.options).await?;
    if let Some(ipv6) = new.ipv6 {
        let (setting, on) = ipv6.accepting();
        write_ipv6(&new.name, setting, on)?;
        write_ipv6(&new.name, Setting::Disabled, ipv6.disabled)?;
    }
    Ok(())
}

/// Whether this is the link that was made a moment ago, and not another one of its name.
fn is_half_made(new: &NewLink, link: &nl::Link) -> bool {
    new.token.is_none_or(|token| link.group == token)
}

/// Deletes a link of ours, if it is there. Looks again: since the plan was made, or the journal written, somebody else
/// may have given the name to a link of theirs.
async fn delete(netlink: &Netlink, name: &str) -> Result<bool, Error> {
    let Some(link) = netlink.link(name).await? else { return Ok(false) };
    if !crate::node::marker::is_ours(link.alias.as_deref()) {
        return Err(Error::Refused(format!("{name} is now a link that this program did not make")));
    }
    Ok(netlink.delete_link(link.index).await?)
}

/// Deletes a link that we have made, if in part, and no other one: a link's alias takes a message of its own after the one
/// that makes it, and until then its group tells whose it is. One that others have given ports since stays: they are
/// pods', and the next that brings the policy about finds it there.
async fn delete_made(netlink: &Netlink, new: &NewLink) -> Result<(), Error> {
    let Some(link) = netlink.link(&new.name).await? else { return Ok(()) };
    let half_made = new.token.is_some() && is_half_made(new, &link);
    if !half_made && !crate::node::marker::is_ours(link.alias.as_deref()) {
        tracing::info!("{} stays: this program did not make it", new.name);
        return Ok(());
    }
    if matches!(link.kind, LinkKind::Bridge(_) | LinkKind::Vrf { .. } | LinkKind::Bond(_)) {
        let ports = netlink.ports(link.index).await?;
        if !ports.is_empty() {
            let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            tracing::warn!("{} stays: {} would be cut off", new.name, names.join(", "));
            return Ok(());
        }
    }
    netlink.delete_link(link.index).await?;
    Ok(())
}
