//! Hosts that share a stream, and what holds them together: the lease, and the group.

use gristmill_tests::guests::Guest;
use gristmill_tests::host::{Host, wait_for};
use gristmill_tests::redis_server::RedisServer;

/// Doubles the key, and loops for ever on -1.
fn looping_on_one_key() -> Guest {
    let mut guest = Guest::doubling();
    let check = "(if (i64.eq (i64.load (local.get $at)) (i64.const -1)) (then (loop $forever (br $forever))))";
    guest.apply = guest.apply.replace("(i64.store (local.get $at) (i64.mul", &format!("{check} (i64.store (local.get $at) (i64.mul"));
    guest
}

#[test]
fn a_batch_may_take_longer_than_the_lease() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("guest.wasm"), looping_on_one_key().component()).unwrap();
    let mut pipe = redis::pipe();
    for key in [1, 2, 3, 4, -1, 6, 7, 8, 9, -1, 11] {
        pipe.cmd("XADD").arg("events").arg("*").arg("key").arg(key);
    }
    pipe.query::<Vec<String>>(&mut server.connection()).unwrap();
    let url = server.url();
    let config = format!(
        "[host]\nlisten = \"127.0.0.1:0\"\ndata_folder = \"data\"\n\n[store]\ntype = \"redis\"\nurl = \"{url}\"\nlease_ms = 100\n\n\
         [streams.events]\ntype = \"redis_streams\"\nurl = \"{url}\"\n\n[transforms.guest]\ncomponent = \"guest.wasm\"\nbisect_ms_max = 60000\n\
         limits = {{ deadline_ms = 150 }}\n"
    );
    let host = Host::start(folder.path(), &config).unwrap();
    wait_for("the batch to be committed", || (host.metric("gristmill_entries_settled_total") == 11.0).then_some(()));
    assert_eq!(host.metric("gristmill_dead_letters_total"), 2.0, "only the events at fault are given up");
    assert_eq!(host.metric("gristmill_restarts_total"), 0.0);
    host.stop();
}
