//! stub
#![allow(missing_docs)]
use crate::model::Reason;
#[derive(Clone, Copy)]
pub enum Stage {
    Read,
    Decode,
    Apply,
    Commit,
}
#[derive(Clone)]
pub struct StreamTelemetry;
#[derive(Clone)]
pub struct TransformTelemetry;
impl StreamTelemetry {
    pub fn entries_read(&self, _n: u64) {}
    pub fn entries_lost(&self, _n: u64) {}
    pub fn stage_seconds(&self, _s: Stage, _v: f64) {}
    pub fn freshness_seconds(&self, _v: f64) {}
    pub fn retries(&self, _part: &'static str) {}
    pub fn restarts(&self, _part: &'static str) {}
    pub fn lag(&self, _e: Option<u64>, _p: u64) {}
}
impl TransformTelemetry {
    pub fn rows_committed(&self, _n: u64) {}
    pub fn dead_letters(&self, _r: Reason, _n: u64) {}
    pub fn apply_seconds(&self, _v: f64) {}
}
