//! Declares every function of windows once: each language must say the same of itself as this does.

const gm = @import("gristmill");

const Event = struct { id: []const u8, amount: ?f64, item: []const u8, quantity: i64 };
const Features = struct { amount: ?f64, quantity: i64, item: []const u8 };

fn windows(event: Event) gm.Error!?Features {
    return .{ .amount = event.amount, .quantity = event.quantity, .item = event.item };
}

comptime {
    gm.rows(.{
        .name = "windows",
        .version = "1.0.0",
        .doc = "Hands events on to windows of every function.",
        .stream = "windows",
        .entity = "id",
        .defaults = &.{.{ "quantity", "1" }},
        .windows = &.{
            .{ .feature = "amounts_90s", .function = .count, .column = "amount", .window = "90s" },
            .{ .feature = "amount_sum_5m", .function = .sum, .column = "amount", .window = "5m" },
            .{ .feature = "amount_mean_1h", .function = .mean, .column = "amount", .window = "1h" },
            .{ .feature = "quantity_min_24h", .function = .min, .column = "quantity", .window = "24h" },
            .{ .feature = "quantity_max_7d", .function = .max, .column = "quantity", .window = "7d" },
            .{ .feature = "amount_variance_30d", .function = .variance, .column = "amount", .window = "30d" },
            .{ .feature = "item_first", .function = .first, .column = "item" },
            .{ .feature = "item_last", .function = .last, .column = "item" },
            .{ .feature = "items_365d", .function = .distinct, .column = "item", .window = "365d" },
            .{ .feature = "amount_p90_1h", .function = .{ .quantile = 0.9 }, .column = "amount", .window = "1h" },
            .{ .feature = "items_last_5", .function = .{ .last_values = 5 }, .column = "item" },
            .{ .feature = "items_top_3_1h", .function = .{ .top = 3 }, .column = "item", .window = "1h" },
            .{ .feature = "quantity_sum", .function = .sum, .column = "quantity" },
        },
    }, windows);
}
