//! Five whole columns of numbers: what the bench of languages runs in each of them.

const gm = @import("gristmill");

const Order = struct { customer: i64, price: f64, quantity: i64 };
const Features = struct { total: f64, pieces: i64 };

fn numbers(in: gm.In(Order), out: *gm.Out(Features)) gm.Error!void {
    const total, const pieces = .{ out.values("total"), out.values("pieces") };
    for (in.values("price"), in.values("quantity"), total, pieces) |price, quantity, *of_all, *one_more| {
        of_all.* = price * @as(f64, @floatFromInt(quantity));
        one_more.* = quantity + 1;
    }
}

comptime {
    gm.columns(.{ .name = "numbers_columns", .stream = "orders", .entity = "customer" }, Order, Features, numbers);
}
