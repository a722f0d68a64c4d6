//! The next version of `tally`: it keeps the largest amount too, and takes over the states of the first.

const std = @import("std");
const gm = @import("gristmill");

const Event = struct { id: []const u8, amount: ?f64 };
const Features = struct { seen: i64, total: f64, largest: f64 };
const Tally = extern struct { count: i64, sum: f64, largest: f64 };
const Before = extern struct { seen: i64, total: f64 };

fn tally(state: *Tally, event: Event) gm.Error!?Features {
    const amount = event.amount orelse 0;
    state.count += 1;
    state.sum += amount;
    state.largest = @max(state.largest, amount);
    return .{ .seen = state.count, .total = state.sum, .largest = state.largest };
}

fn fromBefore(from: []const u8, before: []const u8) gm.Error!Tally {
    if (!std.mem.startsWith(u8, from, "1.")) return gm.reject("version {s} is not known here", .{from});
    if (before.len != @sizeOf(Before)) return gm.reject("a state of version {s} has {d} bytes", .{ from, @sizeOf(Before) });
    const old = std.mem.bytesToValue(Before, before);
    // The largest amount so far is at least the mean.
    return .{ .count = old.seen, .sum = old.total, .largest = if (old.seen == 0) 0 else old.total / @as(f64, @floatFromInt(old.seen)) };
}

comptime {
    gm.migratingFold(.{
        .name = "tally",
        .version = "2.0.0",
        .doc = "Counts, sums and compares the events of an entity.",
        .stream = "tally",
        .entity = "id",
    }, fromBefore, tally);
}
