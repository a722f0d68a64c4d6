//! One of everything: what the conformance cases run in every language.

const std = @import("std");
const gm = @import("gristmill");

const Event = struct {
    id: []const u8,
    action: []const u8,
    truth: ?bool,
    whole: ?i64,
    real: ?f64,
    text: ?[]const u8,
    blob: ?gm.Bytes,
    moment: ?gm.Timestamp,
    embedding: ?[3]f32,
};

const Features = struct {
    truth: ?bool,
    whole: ?i64,
    real: ?f64,
    text: ?[]const u8,
    blob: ?gm.Bytes,
    moment: ?gm.Timestamp,
    embedding: ?[3]f32,
};

const Settings = struct { factor: f64 = 2.0 };

var settings: Settings = .{};

fn reference(event: Event) gm.Error![]const Features {
    const is = struct {
        fn is(event_: Event, action: []const u8) bool {
            return std.mem.eql(u8, event_.action, action);
        }
    }.is;
    if (is(event, "reject")) return gm.reject("{s} asks for it", .{event.id});
    if (is(event, "skip")) return &.{};
    if (is(event, "log")) gm.log(.warn, "a line about {s}", .{event.id});
    const row = Features{
        .truth = if (event.truth) |truth| !truth else null,
        .whole = if (event.whole) |whole| ~whole else null,
        .real = if (event.real) |real| real * settings.factor + 0.1 else null,
        .text = if (event.text) |text| gm.join(&.{ "<", text, ">" }) else null,
        .blob = if (event.blob) |blob| .{ .bytes = reversed(blob.bytes) } else null,
        .moment = if (event.moment) |moment| .{ .micros = moment.micros + 1_000_000 } else null,
        .embedding = if (event.embedding) |embedding| scaled(embedding) else null,
    };
    const rows = gm.allocator.dupe(Features, &.{ row, row }) catch unreachable;
    return if (is(event, "twice")) rows else rows[0..1];
}

fn reversed(bytes: []const u8) []const u8 {
    const copy = gm.allocator.dupe(u8, bytes) catch unreachable;
    std.mem.reverse(u8, copy);
    return copy;
}

fn scaled(embedding: [3]f32) [3]f32 {
    var result: [3]f32 = undefined;
    for (embedding, &result) |number, *to| to.* = @floatCast(@as(f64, number) * settings.factor);
    return result;
}

comptime {
    gm.rowsWith(.{
        .name = "reference",
        .version = "1.0.0",
        .doc = "One of everything.",
        .stream = "reference",
        .entity = "id",
        .defaults = &.{.{ "action", "" }},
        .docs = &.{.{ "real", "The number, scaled." }},
    }, &settings, reference);
}
