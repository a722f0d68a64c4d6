//! Features of an order. Its test runs with: zig test --dep gristmill -Mroot=transform.zig -Mgristmill=sdk/plugins/sdk-zig/gristmill.zig

const std = @import("std");
const gm = @import("gristmill");

const Order = struct { customer: []const u8, price: f64, quantity: i64, coupon: ?[]const u8 };
const Features = struct { total: f64, discounted: bool };

fn features(order: Order) gm.Error!?Features {
    if (order.quantity < 1) return gm.reject("quantity is {d}; at least 1 is right", .{order.quantity});
    return .{ .total = order.price * @as(f64, @floatFromInt(order.quantity)), .discounted = order.coupon != null };
}

comptime {
    gm.rows(.{
        .name = "NAME",
        .doc = "The latest order of a customer.",
        .stream = "orders",
        .entity = "customer",
        .docs = &.{ .{ "total", "Price of all pieces." }, .{ "discounted", "Whether a coupon was used." } },
    }, features);
}

test "a total is the price of all pieces; an order of nothing is refused" {
    const order = Order{ .customer = "ann", .price = 12.5, .quantity = 2, .coupon = null };
    try std.testing.expectEqual(Features{ .total = 25.0, .discounted = false }, (try features(order)).?);
    try std.testing.expectError(error.Rejected, features(.{ .customer = "eve", .price = 1, .quantity = 0, .coupon = null }));
    try std.testing.expectEqualStrings("quantity is 0; at least 1 is right", gm.lastReason());
}
