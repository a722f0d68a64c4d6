//! Five columns of numbers, row by row: what the bench of languages runs in each of them.

const gm = @import("gristmill");

const Order = struct { customer: i64, price: f64, quantity: i64 };
const Features = struct { total: f64, pieces: i64 };

fn numbers(order: Order) gm.Error!?Features {
    return .{ .total = order.price * @as(f64, @floatFromInt(order.quantity)), .pieces = order.quantity + 1 };
}

comptime {
    gm.rows(.{ .name = "numbers", .stream = "orders", .entity = "customer" }, numbers);
}
