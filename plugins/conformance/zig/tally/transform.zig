//! Counts and sums: what the conformance cases of state run in every language.

const std = @import("std");
const gm = @import("gristmill");

const Event = struct { id: []const u8, action: []const u8, amount: ?f64 };
const Features = struct { seen: i64, total: f64 };
const Tally = struct { seen: i64, total: f64 };

fn tally(state: *Tally, event: Event) gm.Error!?Features {
    if (std.mem.eql(u8, event.action, "reject")) return gm.reject("{s} asks for it", .{event.id});
    if (std.mem.eql(u8, event.action, "reset")) {
        state.* = .{ .seen = 0, .total = 0 };
        return null;
    }
    state.seen += 1;
    state.total += event.amount orelse 0;
    return .{ .seen = state.seen, .total = state.total };
}

comptime {
    gm.fold(.{
        .name = "tally",
        .version = "1.0.0",
        .doc = "Counts and sums the events of an entity.",
        .stream = "tally",
        .entity = "id",
        .defaults = &.{.{ "action", "" }},
    }, tally);
}
