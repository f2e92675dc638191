//! Questions that change nothing.

use ipnet::IpNet;
use tokio::time::Instant;

use crate::allocate::Usage;
use crate::file::belonging;
use crate::range::Range;
use crate::wire::{Inquiry, Lookup};

use crate::kubernetes::error::Error;
use crate::kubernetes::memory::view::sound;
use crate::kubernetes::write::deadline::Deadline;
use crate::kubernetes::{Store, lock};

/// So many holders of a range are named; the rest is a number.
const HOLDERS: usize = 16;

impl Store {
    /// The attachment's addresses in these pools, lowest first within each pool.
    ///
    /// # Errors
    /// Those of reading, and damaged pools.
    pub async fn held(&self, lookup: &Lookup, deadline: Instant) -> Result<Vec<IpNet>, Error> {
        let within = Deadline::until(deadline);
        let stale = self.ready(&within).await?.is_some();
        let shared = &self.inner.shared;
        let mut names: Vec<String> = lookup.pools.iter().map(|(name, _)| name.to_string()).collect();
        names.retain(|name| {
            stale || lock(&shared.cache).pools.get(name).is_some_and(|pool| !pool.is_current())
        });
        self.read_all(&names, &[], &within).await?;
        let cache = lock(&shared.cache);
        let mut held = Vec::new();
        for (name, subnet) in &lookup.pools {
            let Some(pool) = sound(&cache, name.as_str(), *subnet, &shared.api)? else { continue };
            let belongs = belonging(&pool, &lookup.attachment.container_id, &lookup.attachment.ifname);
            let own = pool.iter().filter(|(_, entry)| belongs(entry));
            held.extend(own.map(|(address, _)| IpNet::new_assert(address, subnet.prefix_len())));
        }
        Ok(held)
    }

    /// State of every range, in order, by the cache; after a failure of its watches by what the API says of their pools.
    ///
    /// # Errors
    /// Those of reading, and damaged pools.
    pub async fn usage(&self, inquiry: &Inquiry, deadline: Instant) -> Result<Vec<Usage>, Error> {
        let within = Deadline::until(deadline);
        let stale = self.ready(&within).await?.is_some();
        let mut usages = Vec::new();
        for range in &inquiry.ranges {
            if stale {
                let name = range.pool_name(inquiry.network_name.as_deref());
                let name = name.map_err(|error| Error::Unsupported(error.to_string()))?;
                self.read_all(&[name.to_string()], &[], &within).await?;
            }
            let mut usage = self.read_usage(inquiry, range, !stale, &within).await?;
            if usage.free == 0 && !stale {
                // That it is full is said only of what is so now.
                usage = self.read_usage(inquiry, range, false, &within).await?;
            }
            usage.holders.truncate(HOLDERS);
            usages.push(usage);
        }
        Ok(usages)
    }

    /// How full a range is, by pools that were read, be it `lately`.
    async fn read_usage(
        &self,
        inquiry: &Inquiry,
        range: &Range,
        lately: bool,
        within: &Deadline,
    ) -> Result<Usage, Error> {
        let unread = self.unread_by_usage(inquiry, range, lately)?;
        self.read_all(&unread, &[], within).await?;
        let late = || Error::Late { attempt: "reading the pool".into() };
        self.known_usage(inquiry, range)?.ok_or_else(late)
    }
}
