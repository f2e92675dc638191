//! A rival at work: pods come and go.

use super::{Claim, Rival};
use crate::history::Operation;

impl Rival {
    /// So many operations on so many pods of its own, in an order that the seed decides: of a pod drawn by lot, an ADD if it
    /// has no address, else a DEL. A failed ADD is followed by a DEL, which counts too. `done` is told of each.
    ///
    /// `name` tells this rival's pods from others', and is part of their container ids.
    pub fn work(&self, name: &str, pods: u32, operations: u32, seed: u64, mut done: impl FnMut(Operation)) {
        let mut attached = vec![false; pods as usize];
        let mut chance = seed;
        let mut generation = 0_u32;
        let mut ids = vec![String::new(); pods as usize];
        let mut remaining = operations;
        while remaining > 0 {
            // SplitMix64: two lines, and good enough for a draw.
            chance = chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (chance ^ (chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let pod = usize::try_from((mixed >> 33) % u64::from(pods)).unwrap_or_default();
            let add = !attached[pod];
            if add {
                // A sandbox is never used again.
                generation += 1;
                ids[pod] = format!("{name}-{pod}-{generation}");
            }
            let operation = self.one(&Claim::new(&ids[pod], &format!("{name}/pod-{pod}")), add);
            remaining -= 1;
            attached[pod] = add;
            let failed = operation.error.is_some();
            done(operation);
            if failed && add && remaining > 0 {
                let undo = self.one(&Claim::new(&ids[pod], &format!("{name}/pod-{pod}")), false);
                remaining -= 1;
                attached[pod] = undo.error.is_some();
                done(undo);
            } else if failed {
                // Tried again when it is this pod's turn.
                attached[pod] = true;
            }
        }
    }

    fn one(&self, claim: &Claim, add: bool) -> Operation {
        let began = Operation::now();
        let result = if add { self.add(claim).map(Some) } else { self.del(claim).map(|()| None) };
        let (address, error) = match result {
            Ok(address) => (address, None),
            Err(e) => (None, Some(e.to_string())),
        };
        let (id, podref) = (claim.id.clone(), claim.podref.clone());
        Operation { id, podref, add, address, error, began, ended: Operation::now() }
    }
}
