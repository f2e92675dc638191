//! Protocol versions, and what each of them can say.

use super::{Code, Error};

/// A version of the CNI specification that this plugin speaks, in ascending order.
///
/// 0.3.1 is what nearly every NetworkAttachmentDefinition in the field says, so the old layouts are not
/// history: they are the common case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// Every supported version, oldest first, as `VERSION` reports them.
    pub(crate) const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest version, used where a configuration could not be read far enough to name one.
    pub(crate) const NEWEST: Self = Self::V1_1_0;

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version a configuration names. Absent and empty mean 0.1.0, as in the reference library.
    ///
    /// Matching is by exact string: the specification forbids guessing that 1.2.0 is close enough.
    pub(crate) fn of_config(written: Option<&str>) -> Result<Self, Error> {
        let written = match written {
            None | Some("") => return Ok(Self::V0_1_0),
            Some(text) => text,
        };
        Self::ALL.into_iter().find(|version| version.as_str() == written).ok_or_else(|| {
            let supported: Vec<_> = Self::ALL.iter().map(|version| version.as_str()).collect();
            Error::new(
                Code::IncompatibleVersion,
                format!("incompatible CNI versions: cniVersion {written:?} is not supported"),
            )
            .with_details(format!(
                "config is {written:?}, plugin supports [{}]; write one of these",
                supported.join(" ")
            ))
        })
    }

    /// 0.1.0 and 0.2.0 know one address per family and no interfaces.
    pub(crate) fn is_single_address(self) -> bool {
        self < Self::V0_3_0
    }

    /// 0.3.0 to 0.4.0 name the family of each address and print an empty `dns`.
    pub(crate) fn names_ip_family(self) -> bool {
        self < Self::V1_0_0
    }

    /// `interfaces[].mtu` exists in the result types since 1.0.0 of the reference library.
    pub(crate) fn has_interface_mtu(self) -> bool {
        self >= Self::V1_0_0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_and_empty_mean_the_first_version() {
        assert_eq!(Version::of_config(None).unwrap(), Version::V0_1_0);
        assert_eq!(Version::of_config(Some("")).unwrap(), Version::V0_1_0);
    }

    #[test]
    fn every_supported_version_reads_back_and_nothing_else_does() {
        for version in Version::ALL {
            assert_eq!(Version::of_config(Some(version.as_str())).unwrap(), version);
        }
        for other in ["1.2.0", "0.9.9", "1.1", "v1.1.0", " 1.0.0"] {
            let error = Version::of_config(Some(other)).unwrap_err();
            assert_eq!(error.code, Code::IncompatibleVersion, "{other}");
            assert!(error.msg.contains(other), "{}", error.msg);
        }
    }
}
