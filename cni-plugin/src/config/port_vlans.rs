//! `vlan`, `vlanTrunk` and `preserveDefaultVlan` as written.

use octavia_bridge_ipam::document::{Element, FieldError, Object};

/// What the configuration says of the port's VLANs.
#[derive(Debug)]
pub(crate) struct PortVlansConf<'a> {
    pub(crate) vlan: Option<i64>,
    pub(crate) trunk: Vec<TrunkConf<'a>>,
    pub(crate) preserve_default: bool,
}

/// One entry of `vlanTrunk`.
#[derive(Debug)]
pub(crate) struct TrunkConf<'a> {
    pub(crate) written: Element<'a>,
    pub(crate) id: Option<i64>,
    pub(crate) min_id: Option<i64>,
    pub(crate) max_id: Option<i64>,
}

impl<'a> PortVlansConf<'a> {
    pub(super) fn read(root: &mut Object<'a>, unknown: &mut Vec<String>) -> Result<Self, FieldError> {
        let mut trunk = Vec::new();
        for written in root.list("vlanTrunk")? {
            let mut entry = written.object()?;
            let (id, min_id, max_id) = (entry.int("id")?, entry.int("minID")?, entry.int("maxID")?);
            unknown.extend(entry.unknown());
            trunk.push(TrunkConf { written, id, min_id, max_id });
        }
        Ok(Self {
            vlan: root.int("vlan")?,
            trunk,
            // Absent means no, as in the reference plugin since containernetworking/plugins#1181; before, a pod kept hearing
            // its bridge's default VLAN (#667).
            preserve_default: root.bool("preserveDefaultVlan")?.unwrap_or(false),
        })
    }
}
