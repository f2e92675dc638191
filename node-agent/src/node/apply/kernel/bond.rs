//! Steps on bonds.

use nl::{BondOption, BondOptions, Link, LinkKind, MacAddress, Netlink, NewBond};
use octavia_bridge_netlink as nl;

use super::{Error, index};
use crate::node::plan::NewLink;

/// Creates a bond. What is the kernel's default anyway is not sent: an older kernel may not know it.
pub(super) async fn create(
    netlink: &Netlink,
    new: &NewLink,
    mac: Option<MacAddress>,
    options: &BondOptions,
) -> Result<(), Error> {
    let mut stated = BondOptions::new();
    for (name, value) in options {
        let is_default = BondOption::named(name).is_some_and(|option| option.default == value);
        // Ports, and with them the primary one, come later.
        if name != "primary" && (!is_default || name == "mode") {
            stated.insert(name.clone(), value.clone());
        }
    }
    let bond = NewBond { name: new.name.clone(), mac, mtu: new.mtu, group: new.token, options: stated };
    Ok(netlink.create_bond(&bond).await?)
}

pub(super) async fn set(netlink: &Netlink, name: &str, option: &str, value: &str) -> Result<(), Error> {
    let value = on_the_wire(netlink, option, value).await?;
    let options = BondOptions::from([(option.to_owned(), value)]);
    Ok(netlink.change_bond(index(netlink, name).await?, &options).await?)
}

/// Whether an option has this value.
pub(super) async fn has(netlink: &Netlink, link: &Link, option: &str, value: &str) -> Result<bool, Error> {
    let LinkKind::Bond(options) = &link.kind else { return Ok(false) };
    let value = match on_the_wire(netlink, option, value).await {
        Err(Error::Gone(_)) => return Ok(false),
        other => other?,
    };
    Ok(options.get(option) == Some(&value))
}

/// A port is known by its index there.
async fn on_the_wire(netlink: &Netlink, option: &str, value: &str) -> Result<String, Error> {
    if option == "primary" && !value.is_empty() {
        return Ok(index(netlink, value).await?.to_string());
    }
    Ok(value.to_owned())
}
