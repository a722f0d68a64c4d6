//! Whole columns: what the conformance cases of columns run in every language.

const gm = @import("gristmill");

const Order = struct { id: []const u8, price: f64, pieces: ?i64, coupon: ?[]const u8 };
const Features = struct { total: ?f64, label: []const u8, next: ?i64 };

fn columns(in: gm.In(Order), out: *gm.Out(Features)) gm.Error!void {
    for (in.values("price"), 0..) |price, row| {
        const pieces = in.at("pieces", row);
        out.push("total", if (pieces) |many| price * @as(f64, @floatFromInt(many)) else null);
        out.push("next", if (pieces) |many| many + 1 else null);
        out.push("label", gm.join(&.{ in.at("id", row), "/", in.at("coupon", row) orelse "-" }));
    }
}

comptime {
    gm.columns(.{ .name = "columns", .version = "1.0.0", .doc = "Whole columns.", .stream = "orders", .entity = "id" }, Order, Features, columns);
}
