//! Scratch.
use ha_model::*;
fn main() {
    let which: Vec<String> = std::env::args().skip(1).collect();
    let l2 = which.iter().any(|x| x == "l2");
    macro_rules! go { ($($n:ident)*) => { $( if which.iter().any(|x| x == stringify!($n)) {
        if l2 { if let Some(s) = Cluster::new(scenario::$n()).stuck() { println!("STUCK {} {:#?}\n{:?}", s.states, s.steps, s.state); } } else { Cluster::new(scenario::$n()).holds(); }
    } )* } }
    go!(elections three redis suspension handover handover_disturbed entry entry_crash entry_hidden entry_outage entry_hang entry_handover two_entries round_trip exits switches custodian cut_off failover failover_epoch failover_exit flapping);
}
