//! Five whole columns, three of them text: what the bench of languages runs in each of them.

const gm = @import("gristmill");

const Order = struct { customer: []const u8, country: []const u8, price: f64 };
const Features = struct { label: []const u8, total: f64 };

fn text(in: gm.In(Order), out: *gm.Out(Features)) gm.Error!void {
    for (in.values("price"), out.values("total"), 0..) |price, *total, row| {
        out.push("label", gm.join(&.{ in.at("customer", row), "/", in.at("country", row) }));
        total.* = price * 2.0;
    }
}

comptime {
    gm.columns(.{ .name = "text_columns", .stream = "orders", .entity = "customer" }, Order, Features, text);
}
