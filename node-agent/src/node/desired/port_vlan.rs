//! `vlan` of a bridge port: the VLANs that the port has when the bridge filters them.

use std::collections::BTreeMap;

use octavia_bridge_netlink::VlanRange;
use serde_json::{Map, Value, json};

use super::field::Fields;

/// By VLAN id: whether its frames have no tag.
type Table = BTreeMap<u16, bool>;

/// The port's whole table; `None` if the section says nothing, as `vlan: {}` does.
pub(super) fn read(mut vlan: Fields<'_>) -> Option<Vec<VlanRange>> {
    let before = vlan.findings().count();
    let mode = vlan.text("mode");
    // nmstate shows 0 for none.
    let tag = vlan.number_as::<u16>("tag", 0, 4094).filter(|tag| *tag != 0);
    let native = vlan.boolean("enable-native").unwrap_or(false);
    let mut table = Table::new();
    let mut has_tags = false;
    for (path, item) in vlan.list("trunk-tags").unwrap_or_default() {
        has_tags = true;
        if let Some(entry) = Fields::new(path, item, vlan.findings()) {
            read_tags(entry, &mut table);
        }
    }
    if vlan.findings().count() > before {
        return None;
    }
    let is_trunk = match mode.as_deref() {
        Some("trunk") => true,
        Some("access") => false,
        None if tag.is_none() && !native && !has_tags => {
            vlan.finish();
            return None;
        }
        None => has_tags,
        Some(other) => {
            vlan.invalid("mode", format!("{other:?} is neither access nor trunk"));
            return None;
        }
    };
    match (is_trunk, tag) {
        (false, _) if has_tags => {
            vlan.invalid("trunk-tags", "a port of mode access has none; write mode: trunk");
        }
        (false, _) if native => {
            vlan.invalid("enable-native", "only a trunk has it; write mode: trunk, or leave it out");
        }
        (false, None) => vlan.invalid("tag", "missing; write the VLAN of the port's frames"),
        (true, None) if native => vlan.invalid("tag", "missing; write the VLAN of frames without a tag"),
        (true, Some(_)) if !native => {
            vlan.invalid("tag", "a trunk has it only with enable-native: true; list it among trunk-tags");
        }
        (true, None) if !has_tags => {
            vlan.invalid("trunk-tags", "missing; a trunk without VLANs passes no frame");
        }
        _ => table.extend(tag.map(|tag| (tag, true))),
    }
    vlan.finish();
    Some(ranges(&table))
}

fn read_tags(mut entry: Fields<'_>, table: &mut Table) {
    match entry.object("id-range") {
        Some(mut range) => {
            range.needs("min");
            range.needs("max");
            let least = range.number_as::<u16>("min", 1, 4094);
            let most = range.number_as::<u16>("max", 1, 4094);
            if let (Some(least), Some(most)) = (least, most) {
                if least > most {
                    range.invalid("min", format!("{least} is greater than max, {most}"));
                }
                table.extend((least..=most).map(|id| (id, false)));
            }
            range.finish();
        }
        None => entry.needs("id"),
    }
    let id = entry.number_as::<u16>("id", 1, 4094);
    table.extend(id.map(|id| (id, false)));
    entry.finish();
}

/// As the kernel lists them: in order, neighbours of the same sort together.
fn ranges(table: &Table) -> Vec<VlanRange> {
    let mut ranges: Vec<VlanRange> = Vec::new();
    for (id, native) in table {
        match ranges.last_mut() {
            Some(last) if !native && !last.pvid && last.last + 1 == *id => last.last = *id,
            _ => ranges.push(VlanRange { first: *id, last: *id, pvid: *native, untagged: *native }),
        }
    }
    ranges
}

/// The section for a port with this table; `None` for one that no section can ask for.
pub(crate) fn show(vlans: &[VlanRange]) -> Option<Value> {
    let mut section = Map::new();
    let mut tags = Vec::new();
    for range in vlans {
        match (range.pvid, range.untagged) {
            (true, true) => {
                section.insert("tag".to_owned(), json!(range.first));
            }
            (false, false) if range.first == range.last => tags.push(json!({ "id": range.first })),
            (false, false) => tags.push(json!({ "id-range": { "min": range.first, "max": range.last } })),
            _ => return None,
        }
    }
    let is_native = !section.is_empty();
    if tags.is_empty() {
        section.insert("mode".to_owned(), json!("access"));
        return is_native.then_some(Value::Object(section));
    }
    section.insert("mode".to_owned(), json!("trunk"));
    section.insert("enable-native".to_owned(), json!(is_native));
    section.insert("trunk-tags".to_owned(), Value::Array(tags));
    Some(Value::Object(section))
}
