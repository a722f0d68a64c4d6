//! Five columns, three of them text, row by row: what the bench of languages runs in each of them.

const gm = @import("gristmill");

const Order = struct { customer: []const u8, country: []const u8, price: f64 };
const Features = struct { label: []const u8, total: f64 };

fn text(order: Order) gm.Error!?Features {
    return .{ .label = gm.join(&.{ order.customer, "/", order.country }), .total = order.price * 2.0 };
}

comptime {
    gm.rows(.{ .name = "text", .stream = "orders", .entity = "customer" }, text);
}
