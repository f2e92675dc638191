//! What is wanted, from all sources together: files, and the cluster's policies where there is a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cli::Input;
use crate::desired::{self, Label, Problems};
use crate::policies::{Candidate, Chosen, Merged, Part, merge};
use crate::state::{Kept, State};
use crate::{source, verbs};

/// The sources as they were read last.
#[derive(Debug)]
pub(super) struct Wanted {
    /// Texts of files, with the labels of the command line.
    files: Kept,
    /// Labels that the last process knew, as long as the API has not told them.
    kept_labels: Vec<Label>,
    /// Policies: those that were in force when the last process ended, until the API has told which there are.
    policies: Vec<Candidate>,
    chosen: Option<Arc<Chosen>>,
    /// Policies whose present version the kernel did not take, and why.
    held: BTreeMap<String, String>,
}

impl Wanted {
    /// From the files that `input` names, or those kept, and from the policies kept. In a cluster wrong files are no
    /// reason not to begin: what was kept goes on. They are told then.
    ///
    /// # Errors
    /// Without a cluster, wrong input, and nothing that is wanted.
    pub(super) fn begin(
        input: &Input,
        state: &State,
        cluster: bool,
    ) -> anyhow::Result<(Self, Option<String>)> {
        let kept = verbs::kept_last(state)?;
        let (files, fault) = match files(input, kept.as_ref(), cluster) {
            Ok(files) => (files, None),
            Err(error) if cluster => {
                let texts = kept.as_ref().map(|kept| kept.texts.clone()).unwrap_or_default();
                (Kept { texts, choice: input.choice(), ..Kept::default() }, Some(format!("{error:#}")))
            }
            Err(error) => return Err(error),
        };
        let kept = kept.unwrap_or_default();
        let policies = if cluster || input.files.is_empty() { kept.policies } else { Vec::new() };
        let wanted = Self {
            files,
            kept_labels: if cluster { kept.choice.labels } else { Vec::new() },
            policies: policies.into_iter().map(Candidate::kept).collect(),
            chosen: None,
            held: BTreeMap::new(),
        };
        Ok((wanted, fault))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// Wrong files; nothing has changed then.
    pub(super) fn reload(&mut self, input: &Input, state: &State, cluster: bool) -> anyhow::Result<()> {
        self.files = files(input, state.kept()?.as_ref(), cluster)?;
        self.held.clear();
        Ok(())
    }

    /// From now on these are the policies.
    pub(super) fn choose(&mut self, chosen: Arc<Chosen>) {
        self.policies.clone_from(&chosen.policies);
        self.chosen = Some(chosen);
        self.held.clear();
    }

    /// Those that the API has told.
    pub(super) fn chosen(&self) -> Option<&Arc<Chosen>> {
        self.chosen.as_ref()
    }

    /// All of it as one state. `good` is what is in force.
    ///
    /// # Errors
    /// Files that are wrong for the labels this node has now.
    pub(super) fn merged(&self, good: &Kept) -> Result<Merged, Problems> {
        let mut files = self.files.clone();
        if !files.texts.is_empty() {
            let others = self.chosen.as_ref().map_or(&self.kept_labels, |chosen| &chosen.labels);
            let labels = &mut files.choice.labels;
            let more: Vec<Label> = others
                .iter()
                .filter(|other| labels.iter().all(|own| own.key != other.key))
                .cloned()
                .collect();
            labels.extend(more);
        }
        let policies: Vec<&Candidate> = self.policies.iter().collect();
        merge(&files, &policies, &self.held, &good.policies)
    }

    /// What each policy asks for by itself.
    pub(super) fn parts(&self) -> BTreeMap<String, Part> {
        self.policies.iter().map(|one| (one.name.clone(), one.part(&self.files.choice))).collect()
    }

    /// Policies of which something else is in force, or nothing, and that are not held back.
    pub(super) fn untried(&self, good: &Kept) -> Vec<Candidate> {
        let is_new = |policy: &&Candidate| {
            !good.policies.contains(&policy.text) && !self.held.contains_key(&policy.name)
        };
        self.policies.iter().filter(is_new).cloned().collect()
    }

    /// Leaves the present version of this policy out.
    pub(super) fn hold(&mut self, name: &str, why: String) {
        self.held.insert(name.to_owned(), why);
    }

    /// Takes it in again.
    pub(super) fn release(&mut self, name: &str) {
        self.held.remove(name);
    }

    /// Takes all in again; whether one was left out.
    pub(super) fn release_all(&mut self) -> bool {
        !std::mem::take(&mut self.held).is_empty()
    }
}

/// The files' texts, if they can be read. What is kept of them was taken with the words of an earlier command line.
fn files(input: &Input, kept: Option<&Kept>, cluster: bool) -> anyhow::Result<Kept> {
    let mut kept = match source::texts(input, kept.cloned()) {
        Err(source::Error::NothingKept) if cluster => Kept::default(),
        read => read?,
    };
    if !cluster {
        source::desired(&kept)?;
        return Ok(kept);
    }
    let now = input.choice();
    if !kept.texts.is_empty() && input.files.is_empty() {
        kept.choice.all_policies |= now.all_policies;
        kept.choice.ours_only |= now.ours_only;
    } else {
        kept.choice = now.clone();
    }
    desired::read_any(&kept.texts, &kept.choice).map_err(source::Error::from)?;
    kept.choice.labels = now.labels;
    kept.policies.clear();
    Ok(kept)
}
