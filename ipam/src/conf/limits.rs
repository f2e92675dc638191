//! How much one `ipam` block may ask for.

use crate::document::{FieldError, Object};
use crate::request::{MOST_EXCLUDES, MOST_ROUTES, MOST_WANTS};

/// Refuses more addresses, routes or exclusions than one attachment may have, before any of them is looked at.
pub(super) fn check(ipam: &mut Object<'_>) -> Result<(), FieldError> {
    let first = usize::from(ipam.string("range")?.is_some_and(|text| !text.is_empty()));
    let (further, addresses) = (ipam.list("ipRanges")?.len(), ipam.list("addresses")?.len());
    let count = first + further + addresses;
    if count > MOST_WANTS {
        let longer = if further >= addresses { "ipRanges" } else { "addresses" };
        let remedy = format!(
            "makes {count} addresses of one attachment, one of each range and of each entry of addresses; write fewer, \
             {MOST_WANTS} are the most"
        );
        return Err(FieldError::missing(ipam.path_of(longer), remedy));
    }
    let mut excludes = ipam.list("exclude")?.len();
    for range in ipam.list("ipRanges")? {
        excludes += range.object()?.list("exclude")?.len();
    }
    for (key, count, most) in
        [("exclude", excludes, MOST_EXCLUDES), ("routes", ipam.list("routes")?.len(), MOST_ROUTES)]
    {
        if count > most {
            let remedy = format!("has {count} entries; write fewer, {most} are the most");
            return Err(FieldError::missing(ipam.path_of(key), remedy));
        }
    }
    Ok(())
}
