//! Keys of every interface that ask for something only if their value is not the one that holds anyway.

use super::field::Fields;

/// What only a query shows, which nmstate ignores in a desired state as well.
const SHOWN: [&str; 5] = ["driver", "permanent-mac-address", "pci-address", "min-mtu", "max-mtu"];
/// What a profile of NetworkManager is called, and for which addresses it waits; static ones are there at once.
const OF_PROFILES: [&str; 2] = ["profile-name", "wait-ip"];
/// What changes nothing where it is empty.
const MAY_BE_EMPTY: [(&str, &str); 6] = [
    ("ovs-db", "leave it out"),
    ("802.1x", "leave it out; wpa_supplicant authenticates the node"),
    ("ethtool", "leave it out; `ethtool` sets it"),
    ("dispatch", "leave it out; a unit of systemd can run a script"),
    ("alt-names", "leave it out; `ip link property add` or udev gives a link other names"),
    ("controller", "list the interface among the ports of its bridge, bond or VRF"),
];

/// Takes them out of an entry of `interfaces`, and says which of them are not supported.
pub(super) fn read(fields: &mut Fields<'_>) {
    for key in SHOWN.iter().chain(&OF_PROFILES) {
        fields.take(key);
    }
    for (key, remedy) in MAY_BE_EMPTY {
        fields.only_empty(key, remedy);
    }
    fields.only_word("identifier", "name", "name the interface by its name or an alternative name");
    fields
        .only_false("accept-all-mac-addresses", "leave it out; `ip link set LINK promisc on` switches it on");
    if let Some(mut lldp) = fields.object("lldp") {
        lldp.only_false("enabled", "leave it out; lldpd speaks LLDP");
        lldp.take("neighbors");
        lldp.finish();
    }
    if let Some(mut mptcp) = fields.object("mptcp") {
        mptcp.only_empty("address-flags", "leave it out; `ip mptcp` sets them");
        mptcp.finish();
    }
}
