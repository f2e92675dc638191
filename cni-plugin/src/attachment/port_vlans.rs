//! Which VLANs the bridge port of a pod shall have.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use octavia_bridge_ipam::document::FieldError;
use octavia_bridge_netlink::VlanRange;

use crate::config::{PortVlansConf, TrunkConf};

/// Ids a VLAN may have; IEEE 802.1Q reserves 0 and 4095.
const IDS: RangeInclusive<u16> = 1..=4094;
/// The native VLAN of a trunk whose configuration names none, as in the reference plugin.
const TRUNK_NATIVE: u16 = 1;

/// The VLANs a configuration asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortVlans {
    /// Frames without a tag are of this VLAN, in both directions.
    native: u16,
    /// These pass with their tag.
    tagged: Vec<RangeInclusive<u16>>,
    /// The bridge's default VLAN still leaves the port, without its tag.
    keep_default: bool,
    /// The field that asks, with what it says, for messages.
    asked: String,
}

impl PortVlans {
    /// `None` when nothing is asked for.
    pub(super) fn check(conf: &PortVlansConf<'_>) -> Result<Option<Self>, FieldError> {
        let native = match conf.vlan {
            None | Some(0) => None,
            Some(id) => Some(checked(id).ok_or_else(|| {
                let remedy = format!("must be {} to {}, or absent for no VLAN", IDS.start(), IDS.end());
                FieldError::json("vlan", &id.into(), remedy)
            })?),
        };
        let mut tagged = Vec::new();
        for entry in &conf.trunk {
            tagged.extend(ranges(entry)?);
        }
        let asked = match native {
            Some(id) => format!("vlan: {id}"),
            None if tagged.is_empty() => return Ok(None),
            None => format!("vlanTrunk: [{} entries]", conf.trunk.len()),
        };
        let native = native.unwrap_or(TRUNK_NATIVE);
        Ok(Some(Self { native, tagged, keep_default: conf.preserve_default, asked }))
    }

    /// The field that asks for VLANs, with its value, as messages begin.
    pub(crate) fn asked(&self) -> &str {
        &self.asked
    }

    /// What is to be added to the port, as the kernel lists it.
    pub(crate) fn wanted(&self) -> Vec<VlanRange> {
        self.table(None)
    }

    /// All VLANs of the port on a bridge with this default VLAN, as the kernel lists them.
    pub(crate) fn table(&self, default: Option<u16>) -> Vec<VlanRange> {
        let mut by_id = BTreeMap::new();
        by_id.extend(default.filter(|_| self.keep_default).map(|id| (id, (false, true))));
        by_id.extend(self.tagged.iter().cloned().flatten().map(|id| (id, (false, false))));
        // Last: a VLAN has a tag on this port or none, and the native one has none, be it in a trunk's range or not. The
        // reference plugin adds the trunk last and leaves such a port without a native VLAN.
        by_id.insert(self.native, (true, true));
        runs(by_id)
    }
}

/// Joins neighbours that are treated alike, as the kernel does when it lists them.
fn runs(by_id: BTreeMap<u16, (bool, bool)>) -> Vec<VlanRange> {
    let mut runs: Vec<VlanRange> = Vec::new();
    for (id, (pvid, untagged)) in by_id {
        match runs.last_mut() {
            Some(run) if run.last + 1 == id && (run.pvid, run.untagged) == (pvid, untagged) => run.last = id,
            _ => runs.push(VlanRange { first: id, last: id, pvid, untagged }),
        }
    }
    runs
}

/// The ids of an entry: `id`, `minID` to `maxID`, or both.
fn ranges(entry: &TrunkConf<'_>) -> Result<Vec<RangeInclusive<u16>>, FieldError> {
    let wrong = |remedy: String| Err(entry.written.wrong(remedy));
    let of = |key: &str, id: i64| {
        checked(id).ok_or_else(|| {
            let field = format!("{}.{key}", entry.written.path());
            FieldError::json(field, &id.into(), format!("must be {} to {}", IDS.start(), IDS.end()))
        })
    };
    let mut ranges = Vec::new();
    match (entry.min_id, entry.max_id) {
        (None, None) => {}
        (Some(min), Some(max)) => {
            let (min, max) = (of("minID", min)?, of("maxID", max)?);
            if min > max {
                return wrong(format!("begins after its end; write \"minID\": {max}, \"maxID\": {min}"));
            }
            ranges.push(min..=max);
        }
        (Some(_), None) => {
            return wrong("has minID without maxID; write both, or \"id\" for one VLAN".into());
        }
        (None, Some(_)) => {
            return wrong("has maxID without minID; write both, or \"id\" for one VLAN".into());
        }
    }
    if let Some(id) = entry.id {
        let id = of("id", id)?;
        ranges.push(id..=id);
    }
    if ranges.is_empty() {
        return wrong("names no VLAN; write {\"id\": 101} or {\"minID\": 200, \"maxID\": 203}".into());
    }
    Ok(ranges)
}

fn checked(id: i64) -> Option<u16> {
    u16::try_from(id).ok().filter(|id| IDS.contains(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Document, NetConf};

    fn check(keys: &str) -> Result<Option<PortVlans>, String> {
        let document = Document::decode(format!(r#"{{"name":"n"{keys}}}"#).into_bytes()).unwrap();
        let conf = NetConf::read(&document).map_err(|error| error.msg)?;
        PortVlans::check(&conf.port_vlans).map_err(|error| error.to_string())
    }

    fn table(keys: &str) -> String {
        let vlans = check(keys).unwrap().unwrap();
        vlans.table(Some(1)).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn nothing_asked_is_nothing_done() {
        for keys in [
            "",
            r#","vlan":0"#,
            r#","vlanTrunk":[]"#,
            r#","vlanTrunk":null"#,
            r#","preserveDefaultVlan":true"#,
        ] {
            assert_eq!(check(keys), Ok(None), "{keys}");
        }
    }

    #[test]
    fn the_port_has_what_was_asked_for_and_the_default_vlan_only_when_it_is_to_be_kept() {
        for (keys, wanted) in [
            (r#","vlan":100"#, "100 pvid untagged"),
            (r#","vlan":100,"preserveDefaultVlan":true"#, "1 untagged, 100 pvid untagged"),
            (r#","vlan":1,"preserveDefaultVlan":true"#, "1 pvid untagged"),
            (r#","vlanTrunk":[{"id":101},{"minID":200,"maxID":203}]"#, "1 pvid untagged, 101, 200-203"),
            (r#","vlan":100,"vlanTrunk":[{"id":101}]"#, "100 pvid untagged, 101"),
            (r#","vlan":100,"vlanTrunk":[{"minID":99,"maxID":101,"id":9}]"#, "9, 99, 100 pvid untagged, 101"),
            (r#","vlanTrunk":[{"minID":1,"maxID":4094}]"#, "1 pvid untagged, 2-4094"),
            (r#","vlanTrunk":[{"minID":5,"maxID":6},{"id":7},{"id":6}]"#, "1 pvid untagged, 5-7"),
            (r#","vlan":100,"vlanTrunk":[{"id":1}],"preserveDefaultVlan":true"#, "1, 100 pvid untagged"),
        ] {
            assert_eq!(table(keys), wanted, "{keys}");
        }
    }
}
