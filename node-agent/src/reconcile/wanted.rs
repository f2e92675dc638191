//! What is wanted, from all sources together: files, and the cluster's policies where there is a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context;

use super::groups::Group;
use super::keeper::Keeper;
use crate::cluster::policies::{Candidate, Chosen, Following, Merged, Part, merge};
use crate::node::desired::{self, Choice, Desired, Label, Problems, Text};
use crate::node::source::Input;
use crate::node::state::{CutOffs, Kept, NotInForce, State, in_one_line, origins};
use crate::node::{plan, ports, recovery, source};
use crate::{others, sha256};

/// How the identity of a group's state begins.
pub(super) const WHOLE: &str = "state ";

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
    /// Why the present files are left out, for what was in force before, and whether for good.
    held_files: Option<(String, bool)>,
    /// Files that cannot be used, which changed nothing, and why.
    wrong_files: Option<(Vec<Text>, String)>,
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
        let kept = recovery::kept_last(state);
        let (files, fault) = match files(input, kept.as_ref(), cluster) {
            Ok(files) => (files, None),
            Err(error) if cluster => {
                let why = format!("{error:#}");
                (kept_files(input, state, &kept.clone().unwrap_or_default(), &why), Some(why))
            }
            Err(error) => return Err(error),
        };
        let wrong_files = fault.clone().map(|why| (readable(input), why));
        let kept = kept.unwrap_or_default();
        let policies = if cluster || input.files.is_empty() { kept.policies } else { Vec::new() };
        let wanted = Self {
            files,
            kept_labels: if cluster { kept.choice.labels } else { Vec::new() },
            policies: policies.into_iter().map(Candidate::kept).collect(),
            chosen: None,
            held: BTreeMap::new(),
            held_files: None,
            wrong_files,
        };
        Ok((wanted, fault))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// Wrong files; what is wanted has not changed then.
    pub(super) fn reload(&mut self, input: &Input, state: &State, cluster: bool) -> anyhow::Result<()> {
        match files(input, state.kept().as_ref(), cluster) {
            Ok(files) => self.files = files,
            Err(error) => {
                self.wrong_files = Some((readable(input), format!("{error:#}")));
                return Err(error);
            }
        }
        self.held.clear();
        (self.held_files, self.wrong_files) = (None, None);
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
    pub(super) fn merged(&mut self, good: &Kept) -> Result<Merged, Problems> {
        let mut files = self.files.clone();
        if self.held_files.is_some() {
            files = Kept { policies: Vec::new(), ..good.clone() };
        }
        if !files.texts.is_empty() {
            self.add_labels(&mut files.choice);
        }
        let policies: Vec<&Candidate> = self.policies.iter().collect();
        let merged = merge(&files, &policies, &self.held, &good.policies);
        match &merged {
            Ok(_) => drop(self.wrong_files.take_if(|(texts, _)| *texts == files.texts)),
            Err(problems) => self.wrong_files = Some((files.texts, problems.to_string())),
        }
        merged
    }

    /// Adds what the cluster says of this node to the labels of the command line.
    fn add_labels(&self, choice: &mut Choice) {
        let others = self.chosen.as_ref().map_or(&self.kept_labels, |chosen| &chosen.labels);
        for other in others {
            if choice.labels.iter().all(|own| own.key != other.key) {
                choice.labels.push(other.clone());
            }
        }
    }

    /// What each policy asks for by itself.
    pub(super) fn parts(&self) -> BTreeMap<String, Part> {
        self.policies.iter().map(|one| (one.name.clone(), one.part(&self.files.choice))).collect()
    }

    /// Files and policies that are refused, with the bridges that nobody keeps because of that.
    fn not_in_force(&self, refused: &BTreeMap<String, String>, kept: &BTreeSet<&str>) -> Vec<NotInForce> {
        let mut found: Vec<NotInForce> = self.files.not_in_force(kept).into_iter().collect();
        for (policy, why) in refused {
            let candidate = self.policies.iter().find(|candidate| candidate.name == *policy);
            let mut bridges = candidate.map(Candidate::bridges).unwrap_or_default();
            bridges.retain(|name, _| !kept.contains(name.as_str()));
            let why = in_one_line(why);
            found.push(NotInForce { policy: policy.clone(), of_cluster: true, why, bridges });
        }
        let held = self.held_files.iter().map(|(why, _)| (&self.files.texts, why));
        for (texts, why) in self.wrong_files.iter().map(|(texts, why)| (texts, why)).chain(held) {
            found.extend(self.files_not_in_force(texts, why, kept));
        }
        found
    }

    /// The files that are not in force, with those of their bridges that no other file or policy keeps. `None` without such bridges.
    fn files_not_in_force(&self, texts: &[Text], why: &str, kept: &BTreeSet<&str>) -> Option<NotInForce> {
        let mut choice = self.files.choice.clone();
        self.add_labels(&mut choice);
        let mut bridges = BTreeMap::new();
        for text in texts {
            bridges.extend(desired::bridges(text, &choice));
        }
        bridges.retain(|name, _| !kept.contains(name.as_str()));
        if bridges.is_empty() {
            return None;
        }
        Some(NotInForce { policy: origins(texts), of_cluster: false, why: in_one_line(why), bridges })
    }

    /// Forgets lost bridges when files and policies name all of them; those that only policies of the cluster had, when the API
    /// has listed the policies.
    fn find_lost(&mut self, kept: &BTreeSet<&str>) {
        if self.chosen.is_some() {
            self.files.forget_lost_policies();
        }
        let Some((_, bridges)) = self.files.lost() else { return };
        let mut left: BTreeSet<&str> = bridges.keys().map(String::as_str).collect();
        left.retain(|name| !kept.contains(name));
        for policy in &self.policies {
            let named = policy.bridges();
            left.retain(|name| !named.contains_key(*name));
        }
        if left.is_empty() {
            self.files.refused = None;
        }
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

    /// Takes all in again but those that cut the node off; whether one comes in.
    pub(super) fn release_all(&mut self, cut_offs: &CutOffs) -> bool {
        let before = self.held.len() + usize::from(self.held_files.is_some());
        self.held.clear();
        self.held_files.take_if(|(_, for_good)| !*for_good);
        self.hold_cut_offs(cut_offs);
        before != self.held.len() + usize::from(self.held_files.is_some())
    }

    /// Leaves out the versions that cut the node off.
    pub(super) fn hold_cut_offs(&mut self, cut_offs: &CutOffs) {
        for policy in &self.policies {
            if let Some(why) = cut_offs.why(&policy.identity()) {
                self.held.insert(policy.name.clone(), why.to_owned());
            }
        }
    }

    /// Files that differ from those in force.
    pub(super) fn files_are_new(&self, good: &Kept) -> bool {
        self.held_files.is_none() && !self.files.texts.is_empty() && self.files.texts != good.texts
    }

    /// Leaves the present files out, for a while or for good.
    pub(super) fn hold_files(&mut self, why: String, for_good: bool) {
        self.held_files = Some((why, for_good));
    }

    /// What tells one state of a group from another: all that is wanted of it, and the wishes of its policies to try it
    /// again. Another release may have other words for it, and tries it once more.
    pub(super) fn identity(&self, group: &Group, parts: &BTreeMap<String, Part>) -> String {
        let mut wishes = Vec::new();
        for policy in &self.policies {
            let asks = |part: &Part| group.names.iter().any(|name| part.asks_for(name));
            wishes.extend(policy.wish().filter(|_| parts.get(&policy.name).is_some_and(asks)));
        }
        let Desired { interfaces, routes, .. } = &group.desired;
        let digest = sha256::hex(format!("{interfaces:?}{routes:?}{wishes:?}").as_bytes());
        format!("{WHOLE}{digest}")
    }
}

/// The policies of the cluster, when others than before select this node.
///
/// # Errors
/// They are not followed any more: the task that did has panicked.
pub(super) async fn chosen(following: &mut Option<Following>) -> anyhow::Result<Arc<Chosen>> {
    let Some(following) = following else { return std::future::pending().await };
    loop {
        following.chosen.changed().await.context("the cluster's policies are not followed any more")?;
        if let Some(chosen) = following.chosen.borrow_and_update().clone() {
            return Ok(chosen);
        }
    }
}

impl Keeper<'_> {
    /// Begins to keep what is wanted now. Whether that is anything else.
    pub(super) async fn merge(&mut self) -> anyhow::Result<bool> {
        let mut merged = match self.wanted.merged(&self.texts_in_force) {
            Ok(merged) => merged,
            Err(problems) => {
                self.wrong_files(problems.to_string());
                return Ok(false);
            }
        };
        (self.refused, self.parts) = (merged.refused, self.wanted.parts());
        let kept = ports::bridges(&merged.desired);
        if self.wanted.files.refused.is_some() {
            self.wanted.find_lost(&kept);
            merged.kept.refused.clone_from(&self.wanted.files.refused);
        }
        self.find_not_in_force(&kept);
        merged.desired.own_ports.clone_from(&self.desired.own_ports);
        if merged.desired == self.desired && merged.kept == self.texts {
            return Ok(false);
        }
        // First: should this fail, the next call sees the difference again.
        let names = plan::scope(&merged.desired).names;
        self.watch.set(self.netlink, names).await.context("find the links that are kept")?;
        (self.desired, self.texts) = (merged.desired, merged.kept);
        self.promised = false;
        self.noted_at = None;
        self.publish(true);
        self.standing.begins();
        Ok(true)
    }

    /// Finds out what is not in force, where these bridges are kept.
    fn find_not_in_force(&mut self, kept: &BTreeSet<&str>) {
        let mut not_in_force = self.wanted.not_in_force(&self.refused, kept);
        // Until the API has told, what the last process knew of them holds.
        let before = self.told_before.iter().filter(|_| self.wanted.chosen().is_none());
        for before in before {
            if not_in_force.iter().any(|now| now.policy == before.policy) {
                continue;
            }
            let mut left = before.clone();
            left.bridges.retain(|name, _| !kept.contains(name.as_str()));
            // One whose bridges are all kept by now has come into force.
            if !left.bridges.is_empty() || before.bridges.is_empty() {
                not_in_force.push(left);
            }
        }
        if not_in_force != self.not_in_force {
            self.standing.refuses(&not_in_force, &self.not_in_force);
            self.not_in_force = not_in_force;
            self.promised = false;
        }
    }

    /// Tells files of other programs which links are, or may be, created here: those in force, and those that are tried.
    /// With `stay` those told before stay: a policy that is refused again and again has no file written again.
    pub(super) fn publish(&self, stay: bool) {
        let mut now = others::made_here(&self.desired);
        now.extend(others::made_here(&self.in_force));
        self.job.made.send_if_modified(|before| {
            let made = merged_names(if stay { before.as_slice() } else { &[] }, &now);
            let is_new = !made.is_empty() && *before != made;
            if is_new {
                *before = made;
            }
            is_new
        });
    }

    /// Policies of the cluster have come, changed or gone.
    pub(super) async fn choose(&mut self, chosen: Arc<Chosen>) -> anyhow::Result<()> {
        self.wanted.choose(chosen);
        self.wanted.hold_cut_offs(&self.cut_offs);
        self.held_until = None;
        self.begin().await
    }

    /// Begins to keep what is wanted now, and says so.
    pub(super) async fn begin(&mut self) -> anyhow::Result<()> {
        let is_new = self.merge().await?;
        // Something else may have been tried before, and is not wanted any more.
        self.publish(false);
        if !is_new {
            return Ok(());
        }
        self.left.clear();
        match self.desired.interfaces.len() {
            0 if self.desired.is_empty() => {
                tracing::info!("nothing is wanted any more, so no links are kept");
            }
            some => tracing::info!("keeping {some} interfaces"),
        }
        for text in &self.desired.left_alone {
            tracing::info!("left alone: {text}");
        }
        Ok(())
    }

    pub(super) async fn find_links(&mut self) -> anyhow::Result<()> {
        let names = plan::scope(&self.desired).names;
        self.watch.set(self.netlink, names).await.context("find the links that are kept")
    }

    /// Reads the files again. Wrong ones change nothing.
    pub(super) async fn reload(&mut self, input: &Input, cluster: bool) -> anyhow::Result<()> {
        match self.wanted.reload(input, self.state, cluster) {
            Ok(()) => {
                tracing::info!("read the desired state again");
                // Who changes a file, or asks for it to be read, asks for it to be tried.
                if self.cut_offs.forget(WHOLE) {
                    self.disk.keep_cut_offs(&self.cut_offs);
                }
                self.wanted.hold_cut_offs(&self.cut_offs);
                self.refusals.clear();
                self.standing.accepted();
                self.held_until = None;
                self.begin().await
            }
            Err(error) => {
                self.wrong_files(format!("{error:#}"));
                Ok(())
            }
        }
    }

    /// What is kept stays.
    pub(super) fn wrong_files(&mut self, why: String) {
        tracing::error!("the desired state stays as it was: {why}");
        self.standing.refused(why);
        let desired = self.desired.clone();
        self.find_not_in_force(&ports::bridges(&desired));
    }
}

/// These names, and those of `more` that are not among them.
fn merged_names(names: &[String], more: &[String]) -> Vec<String> {
    let mut all = names.to_vec();
    for name in more {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    all
}

/// The texts of those files that can be read.
fn readable(input: &Input) -> Vec<Text> {
    // Standard input was read once and for all.
    let files = input.files.iter().filter(|path| path.as_os_str() != "-");
    files.filter_map(|path| source::text(path).ok()).collect()
}

/// The files as they are kept, where those that `input` names, or these, cannot be read. Ones that this release refuses
/// hold up no policy of the cluster, and are not lost.
fn kept_files(input: &Input, state: &State, kept: &Kept, why: &str) -> Kept {
    let choice = input.choice();
    let Kept { texts, refused, .. } = kept.clone().restored();
    let Err(problems) = desired::read_any(&texts, &choice) else {
        return Kept { texts, choice, refused, ..Kept::default() };
    };
    let why = if input.files.is_empty() { why.to_owned() } else { problems.to_string() };
    Kept { choice, refused: state.refuse(kept, &why), ..Kept::default() }
}

/// The files' texts, if they can be read. What is kept of them was taken with the words of an earlier command line.
fn files(input: &Input, before: Option<&Kept>, cluster: bool) -> anyhow::Result<Kept> {
    let mut kept = match source::texts(input, before.cloned()) {
        Err(source::Error::NothingKept | source::Error::Lost(_)) if cluster => {
            before.cloned().unwrap_or_default()
        }
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
    if !input.files.is_empty() {
        kept.refused = before.and_then(Kept::lost_policies);
    }
    Ok(kept)
}
