//! Write Gristmill transforms in Zig: a function over a struct, and nothing else.
//!
//!     const gm = @import("gristmill");
//!
//!     const Order = struct { customer: []const u8, price: f64, quantity: i64, coupon: ?[]const u8 };
//!     const Features = struct { total: f64, discounted: bool };
//!
//!     fn features(order: Order) gm.Error!?Features {
//!         if (order.quantity < 1) return gm.reject("quantity is {d}; at least 1 is right", .{order.quantity});
//!         return .{ .total = order.price * @as(f64, @floatFromInt(order.quantity)), .discounted = order.coupon != null };
//!     }
//!
//!     comptime {
//!         gm.rows(.{ .name = "spending", .stream = "orders", .entity = "customer" }, features);
//!     }
//!
//! Fields: bool, i64, f64, []const u8 (text), Bytes, Timestamp, [N]f32, and optionals of these where null is legal. The function returns a row, null for none, or a slice of rows
//! (`gm.Error![]const Features`) for several; `gm.reject` makes a dead letter of the event. Memory from `gm.allocator` lasts until the call ends; nothing is freed by hand.

const std = @import("std");
const builtin = @import("builtin");

const is_wasm = builtin.cpu.arch == .wasm32;

/// Bytes that are no text.
pub const Bytes = struct { bytes: []const u8 };

/// A moment: microseconds since 1970-01-01T00:00:00Z.
pub const Timestamp = struct { micros: i64 };

/// What a transform's function may fail with: `gm.reject` gives it.
pub const Error = error{Rejected};

/// What a transform says about itself, beside its fields.
pub const Spec = struct {
    name: []const u8,
    version: []const u8 = "0.1.0",
    doc: []const u8 = "",
    /// The streams that it reads unless the host's configuration says otherwise, with spaces between them.
    stream: []const u8 = "",
    /// The inputs that together are the key, with spaces between them.
    entity: []const u8,
    /// The input, a Timestamp, that says when the event happened; null: the time of the stream's entry.
    event_time: ?[]const u8 = null,
    /// For inputs that stand in where an event lacks them: pairs of field and text.
    defaults: []const [2][]const u8 = &.{},
    /// For people: pairs of output and meaning.
    docs: []const [2][]const u8 = &.{},
    /// Windows that the host keeps over the outputs.
    windows: []const Window = &.{},
};

/// A windowed feature: `.{ .feature = "orders_1h", .function = .count, .column = "total", .window = "1h" }`.
pub const Window = struct {
    feature: []const u8,
    function: Function,
    /// The output that it is computed over.
    column: []const u8,
    /// A number and s, m, h or d, as in "24h"; null: since the first event.
    window: ?[]const u8 = null,
    /// For people: what it means, and its unit.
    doc: []const u8 = "",
};

/// A function over the values of a window. A quantile has its rank, 0 to 1; a list how many values it has, 1 to 1000.
pub const Function = union(enum(u8)) { count, sum, mean, min, max, variance, first, last, distinct, quantile: f64, last_values: u32, top: u32 };

var arena: std.heap.ArenaAllocator = .init(if (is_wasm) std.heap.wasm_allocator else std.heap.page_allocator);
var call_is_over = false;

/// Memory until the end of the call.
pub const allocator: std.mem.Allocator = arena.allocator();

fn alloc(comptime T: type, count: usize) []T {
    return allocator.alloc(T, count) catch @panic("out of memory");
}

var reason: []const u8 = "";

/// Refuses the event: `return gm.reject("why {s}", .{id});`
pub fn reject(comptime format: []const u8, arguments: anytype) Error {
    return report(format, arguments);
}

fn report(comptime format: []const u8, arguments: anytype) Error {
    reason = std.fmt.allocPrint(allocator, format, arguments) catch "out of memory";
    return error.Rejected;
}

/// For unit tests: why an event was refused last.
pub fn lastReason() []const u8 {
    return reason;
}

/// Texts one after the other.
pub fn join(texts: []const []const u8) []const u8 {
    return std.mem.concat(allocator, u8, texts) catch @panic("out of memory");
}

pub const Level = enum(u32) { debug, info, warn, err };

const host = struct {
    extern "gristmill:transform/log@1.0.0" fn write(level: u32, at: [*]const u8, length: u32) void;
};

/// A line in the host's log, under the transform's name.
pub fn log(level: Level, comptime format: []const u8, arguments: anytype) void {
    const line = std.fmt.allocPrint(allocator, format, arguments) catch return;
    if (is_wasm) host.write(@intFromEnum(level), line.ptr, @intCast(line.len));
}

// ---- Kinds ----

const Kind = enum(u8) { boolean, integer, float, text, bytes, timestamp, vector };

/// Names and types of the fields of a struct.
fn Members(comptime T: type) type {
    const shape = @typeInfo(T).@"struct";
    return struct {
        const names = shape.field_names;
        const types = shape.field_types;
    };
}

fn Inner(comptime T: type) type {
    return switch (@typeInfo(T)) {
        .optional => |optional| optional.child,
        else => T,
    };
}

fn kindOf(comptime T: type) Kind {
    const Value = Inner(T);
    if (Value == bool) return .boolean;
    if (Value == i64) return .integer;
    if (Value == f64) return .float;
    if (Value == []const u8) return .text;
    if (Value == Bytes) return .bytes;
    if (Value == Timestamp) return .timestamp;
    switch (@typeInfo(Value)) {
        .array => |array| if (array.child == f32) return .vector,
        else => {},
    }
    @compileError(@typeName(T) ++ " is no kind of column; use bool, i64, f64, []const u8, gm.Bytes, gm.Timestamp, [N]f32, or an optional of one");
}

fn widthOf(comptime T: type) u32 {
    return if (kindOf(T) == .vector) @typeInfo(Inner(T)).array.len else 0;
}

// ---- The contract's records in memory ----

const List = extern struct {
    at: usize = 8,
    length: usize = 0,

    fn of(items: anytype) List {
        return if (items.len == 0) .{} else .{ .at = @intFromPtr(items.ptr), .length = items.len };
    }

    fn slice(list: List, comptime T: type) []const T {
        return if (list.length == 0) &.{} else @as([*]const T, @ptrFromInt(list.at))[0..list.length];
    }
};

const Option = extern struct { is_some: u8 = 0, list: List = .{} };

/// The four words of `values`, whose meaning is a matter of the kind.
const Column = extern struct {
    kind: u8,
    words: extern union { fixed: List, texts: extern struct { offsets: List, bytes: List }, vectors: extern struct { width: usize, values: List } },
    validity: Option = .{},
};

const Rejection = extern struct { row: u32, reason: List };

const Output = extern struct { rows: usize, columns: List, origins: Option, rejected: List };

const Field = extern struct {
    name: List,
    kind: u8,
    nullable: u8,
    default: Option = .{},
    width: extern struct { is_some: u8 = 0, numbers: usize = 0 } = .{},
    doc: List,
};

const WindowRecord = extern struct {
    feature: List,
    column: List,
    function: extern struct { tag: u64, payload: u64 },
    window: extern struct { is_some: u64, milliseconds: u64 },
    doc: List,
};

const SpecRecord = extern struct {
    is_error: usize = 0,
    name: List,
    version: List,
    doc: List,
    streams: List,
    entity: List,
    event_time: Option,
    inputs: List,
    outputs: List,
    aggregations: List = .{},
};

const Failure = extern struct { is_error: usize = 1, message: List };
const Applied = extern struct { is_error: usize = 0, output: Output };
const Migrated = extern struct { is_error: usize = 0, states: Column };
const Folded = extern struct { is_error: usize = 0, output: Output, states: Column };

comptime {
    if (is_wasm) {
        std.debug.assert(@sizeOf(Column) == 32 and @sizeOf(Output) == 32 and @sizeOf(Field) == 40 and @sizeOf(SpecRecord) == 80 and @sizeOf(WindowRecord) == 56 and @sizeOf(Migrated) == 36);
    }
}

fn keep(record: anytype) *const anyopaque {
    const kept = allocator.create(@TypeOf(record)) catch @panic("out of memory");
    kept.* = record;
    return kept;
}

// ---- Out of columns, into columns ----

fn isValid(column: *const Column, row: usize) bool {
    if (column.validity.is_some == 0) return true;
    const bits = @as([*]const u8, @ptrFromInt(column.validity.list.at));
    return bits[row / 8] >> @intCast(row % 8) & 1 == 1;
}

fn cut(column: *const Column, row: usize) []const u8 {
    const offsets = @as([*]const u32, @ptrFromInt(column.words.texts.offsets.at));
    const bytes = @as([*]const u8, @ptrFromInt(column.words.texts.bytes.at));
    return bytes[offsets[row]..offsets[row + 1]];
}

fn get(comptime T: type, column: *const Column, row: usize) T {
    if (@typeInfo(T) == .optional) {
        if (!isValid(column, row)) return null;
        return get(Inner(T), column, row);
    }
    const fixed = column.words.fixed.at;
    return switch (comptime kindOf(T)) {
        .boolean => @as([*]const u8, @ptrFromInt(fixed))[row] == 1,
        .integer => @as([*]const i64, @ptrFromInt(fixed))[row],
        .float => @as([*]const f64, @ptrFromInt(fixed))[row],
        .timestamp => .{ .micros = @as([*]const i64, @ptrFromInt(fixed))[row] },
        .text => cut(column, row),
        .bytes => .{ .bytes = cut(column, row) },
        .vector => @as([*]const f32, @ptrFromInt(column.words.vectors.values.at))[row * widthOf(T) ..][0..comptime widthOf(T)].*,
    };
}

fn load(comptime Event: type, given: [*]const Column, row: usize) Event {
    var event: Event = undefined;
    inline for (Members(Event).names, Members(Event).types, 0..) |name, T, i| @field(event, name) = get(T, &given[i], row);
    return event;
}

/// A column that is being filled.
fn Builder(comptime T: type) type {
    const Stored = switch (kindOf(T)) {
        .boolean => u8,
        .integer, .timestamp => i64,
        .float => f64,
        .text, .bytes => u8,
        .vector => f32,
    };
    return struct {
        values: std.ArrayList(Stored) = .empty,
        offsets: std.ArrayList(u32) = .empty,
        valid: std.ArrayList(u8) = .empty,
        rows: usize = 0,

        const Self = @This();
        const is_packed = kindOf(T) == .text or kindOf(T) == .bytes;

        fn init(expected: usize) std.mem.Allocator.Error!Self {
            var self: Self = .{};
            try self.values.ensureTotalCapacity(allocator, expected * if (is_packed) 16 else @max(1, comptime widthOf(T)));
            if (is_packed) try self.offsets.ensureTotalCapacity(allocator, expected + 1);
            return self;
        }

        fn push(self: *Self, value: T) std.mem.Allocator.Error!void {
            if (@typeInfo(T) == .optional) {
                if (self.rows % 8 == 0) try self.valid.append(allocator, 0);
                if (value) |present| {
                    self.valid.items[self.rows / 8] |= @as(u8, 1) << @intCast(self.rows % 8);
                    try self.put(present);
                } else try self.put(std.mem.zeroes(Inner(T)));
            } else try self.put(value);
            self.rows += 1;
        }

        fn put(self: *Self, value: Inner(T)) std.mem.Allocator.Error!void {
            if (is_packed) {
                if (self.offsets.items.len == 0) try self.offsets.append(allocator, 0);
                try self.values.appendSlice(allocator, if (comptime kindOf(T) == .text) value else value.bytes);
                try self.offsets.append(allocator, @intCast(self.values.items.len));
            } else switch (comptime kindOf(T)) {
                .boolean => try self.values.append(allocator, @intFromBool(value)),
                .timestamp => try self.values.append(allocator, value.micros),
                .vector => try self.values.appendSlice(allocator, &value),
                else => try self.values.append(allocator, value),
            }
        }

        fn finish(self: *Self) Column {
            var column = Column{ .kind = @intFromEnum(comptime kindOf(T)), .words = undefined };
            if (is_packed) {
                if (self.offsets.items.len == 0) self.offsets.append(allocator, 0) catch @panic("out of memory");
                column.words = .{ .texts = .{ .offsets = .of(self.offsets.items), .bytes = .of(self.values.items) } };
            } else if (comptime kindOf(T) == .vector) {
                column.words = .{ .vectors = .{ .width = widthOf(T), .values = .of(self.values.items) } };
            } else column.words = .{ .fixed = .of(self.values.items) };
            if (@typeInfo(T) == .optional) column.validity = .{ .is_some = 1, .list = .of(self.valid.items) };
            return column;
        }
    };
}

/// Collects rows, where they come from, and events that are refused.
fn Sink(comptime Features: type) type {
    const members = Members(Features);
    const outputs = members.names.len;
    return struct {
        builders: Builders,
        origins: std.ArrayList(u32) = .empty,
        rejected: std.ArrayList(Rejection) = .empty,

        const Self = @This();
        const Builders = blk: {
            var types: [outputs]type = undefined;
            for (members.types, 0..) |T, i| types[i] = Builder(T);
            break :blk @Tuple(&types);
        };

        fn init(expected: usize) Self {
            return tryInit(expected) catch @panic("out of memory");
        }

        fn tryInit(expected: usize) std.mem.Allocator.Error!Self {
            var self: Self = undefined;
            self.origins = try .initCapacity(allocator, expected);
            self.rejected = .empty;
            inline for (0..outputs) |i| self.builders[i] = try .init(expected);
            return self;
        }

        fn add(self: *Self, row: u32, value: Features) void {
            self.tryAdd(row, value) catch @panic("out of memory");
        }

        fn tryAdd(self: *Self, row: u32, value: Features) std.mem.Allocator.Error!void {
            inline for (members.names, 0..) |name, i| try self.builders[i].push(@field(value, name));
            try self.origins.append(allocator, row);
        }

        fn refuse(self: *Self, row: u32) void {
            self.rejected.append(allocator, .{ .row = row, .reason = .of(reason) }) catch @panic("out of memory");
        }

        /// Takes what a function returned: a row, none, or several.
        fn take(self: *Self, row: u32, returned: anytype) void {
            switch (@typeInfo(@TypeOf(returned))) {
                .optional => if (returned) |value| self.add(row, value),
                .pointer => for (returned) |value| self.add(row, value),
                else => self.add(row, returned),
            }
        }

        fn finish(self: *Self) Output {
            const finished = alloc(Column, outputs);
            inline for (0..outputs) |i| finished[i] = self.builders[i].finish();
            return .{
                .rows = self.origins.items.len,
                .columns = .of(finished),
                .origins = .{ .is_some = 1, .list = .of(self.origins.items) },
                .rejected = .of(self.rejected.items),
            };
        }
    };
}

// ---- The spec ----

fn lookup(pairs: []const [2][]const u8, name: []const u8) ?[]const u8 {
    for (pairs) |pair| if (std.mem.eql(u8, pair[0], name)) return pair[1];
    return null;
}

fn fields(comptime T: type, spec: Spec, comptime is_input: bool) List {
    const members = Members(T);
    const records = alloc(Field, members.names.len);
    inline for (members.names, members.types, 0..) |name, Member, i| {
        const default = if (is_input) lookup(spec.defaults, name) else null;
        const doc = if (is_input) null else lookup(spec.docs, name);
        records[i] = .{
            .name = .of(@as([]const u8, name)),
            .kind = @intFromEnum(comptime kindOf(Member)),
            .nullable = @intFromBool(@typeInfo(Member) == .optional),
            .default = if (default) |text| .{ .is_some = 1, .list = .of(text) } else .{},
            .width = .{ .is_some = @intFromBool(comptime kindOf(Member) == .vector), .numbers = comptime widthOf(Member) },
            .doc = .of(@as([]const u8, doc orelse "")),
        };
    }
    return .of(records);
}

fn words(text: []const u8) List {
    var found: std.ArrayList(List) = .empty;
    var rest = std.mem.tokenizeScalar(u8, text, ' ');
    while (rest.next()) |word| found.append(allocator, .of(word)) catch @panic("out of memory");
    return .of(found.items);
}

fn described(comptime Event: type, comptime Features: type, spec: Spec) *const anyopaque {
    return keep(SpecRecord{
        .name = .of(spec.name),
        .version = .of(spec.version),
        .doc = .of(spec.doc),
        .streams = words(spec.stream),
        .entity = words(spec.entity),
        .event_time = if (spec.event_time) |field| .{ .is_some = 1, .list = .of(field) } else .{},
        .inputs = fields(Event, spec, true),
        .outputs = fields(Features, spec, false),
        .aggregations = windowRecords(spec.windows),
    });
}

fn windowRecords(windows: []const Window) List {
    const records = alloc(WindowRecord, windows.len);
    for (windows, records) |window, *record| record.* = .{
        .feature = .of(window.feature),
        .column = .of(window.column),
        .function = .{
            .tag = @intFromEnum(window.function),
            .payload = switch (window.function) {
                .quantile => |rank| @bitCast(rank),
                .last_values, .top => |many| many,
                else => 0,
            },
        },
        .window = if (window.window) |text| .{ .is_some = 1, .milliseconds = milliseconds(text) orelse 0 } else .{ .is_some = 0, .milliseconds = 0 },
        .doc = .of(window.doc),
    };
    return .of(records);
}

fn milliseconds(window: []const u8) ?u64 {
    if (window.len < 2) return null;
    const unit: u64 = switch (window[window.len - 1]) {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        else => return null,
    };
    var number: u64 = 0;
    for (window[0 .. window.len - 1]) |digit| {
        if (digit < '0' or digit > '9' or number > std.math.maxInt(u32)) return null;
        number = number * 10 + (digit - '0');
    }
    return if (number == 0) null else number * unit;
}

/// What is wrong with a window over the outputs of a struct, when it is compiled.
fn windowProblem(comptime Features: type, comptime window: Window) ?[]const u8 {
    var known: []const u8 = "";
    var found = false;
    for (Members(Features).names) |name| {
        if (std.mem.eql(u8, name, window.feature)) return "there is an output of this name too";
        found = found or std.mem.eql(u8, name, window.column);
        known = known ++ (if (known.len == 0) "" else ", ") ++ name;
    }
    if (!found) return "there is no output `" ++ window.column ++ "` to compute it over; the outputs are: " ++ known;
    if (window.window) |text| {
        if (milliseconds(text) == null) return "a window of \"" ++ text ++ "\"; a window is a number and s, m, h or d, as in \"24h\", and null is since the first event";
    }
    switch (window.function) {
        .quantile => |rank| if (!(rank >= 0 and rank <= 1)) return "the rank of a quantile; 0 to 1 is right",
        .last_values, .top => |many| if (many < 1 or many > 1_000) return "how many values it lists; 1 to 1000 are allowed",
        else => {},
    }
    return null;
}

test "windows are checked when they are compiled" {
    const Features = struct { total: f64, item: []const u8 };
    const wrong = [_]struct { Window, []const u8 }{
        .{ .{ .feature = "w", .function = .count, .column = "totl" }, "there is no output `totl` to compute it over; the outputs are: total, item" },
        .{ .{ .feature = "total", .function = .count, .column = "total" }, "there is an output of this name too" },
        .{ .{ .feature = "w", .function = .count, .column = "total", .window = "1 hour" }, "a window of \"1 hour\"" },
        .{ .{ .feature = "w", .function = .count, .column = "total", .window = "h" }, "a window of \"h\"" },
        .{ .{ .feature = "w", .function = .{ .quantile = 90 }, .column = "total" }, "0 to 1 is right" },
        .{ .{ .feature = "w", .function = .{ .top = 0 }, .column = "item" }, "1 to 1000 are allowed" },
    };
    inline for (wrong) |case| {
        const problem = comptime windowProblem(Features, case[0]);
        try std.testing.expect(std.mem.startsWith(u8, problem.?, case[1]) or std.mem.endsWith(u8, problem.?, case[1]));
    }
    try std.testing.expectEqual(null, comptime windowProblem(Features, .{ .feature = "w", .function = .{ .quantile = 0.5 }, .column = "total", .window = "30d" }));
    const right = [_]Window{ .{ .feature = "w", .function = .{ .quantile = 0.5 }, .column = "total", .window = "30d" }, .{ .feature = "v", .function = .{ .top = 3 }, .column = "item" } };
    const records = windowRecords(&right).slice(WindowRecord);
    try std.testing.expectEqual(2_592_000_000, records[0].window.milliseconds);
    try std.testing.expectEqual(0.5, @as(f64, @bitCast(records[0].function.payload)));
    try std.testing.expectEqual(11, records[1].function.tag);
    try std.testing.expectEqual(0, records[1].window.is_some);
}

/// Reads settings into a variable of the author's: a struct with defaults, from a JSON object. Gives what is wrong.
fn readSettings(comptime settings: anytype, text: []const u8) ?[]const u8 {
    if (std.mem.trim(u8, text, " \n\t\r").len == 0) return null;
    if (@TypeOf(settings) == void) return "this transform takes no settings";
    const Shape = @TypeOf(settings.*);
    settings.* = std.json.parseFromSliceLeaky(Shape, allocator, text, .{ .allocate = .alloc_always }) catch |problem| {
        const names = comptime blk: {
            var names: []const u8 = "";
            for (Members(Shape).names) |name| names = names ++ (if (names.len == 0) "" else ", ") ++ name;
            break :blk names;
        };
        return std.fmt.allocPrint(allocator, "cannot use the settings {s} ({t}); known are: {s}", .{ text, problem, names }) catch "cannot use the settings";
    };
    return null;
}

// ---- What makes a transform of a function ----

fn export_(comptime name: []const u8, comptime function: anytype) void {
    if (is_wasm) @export(function, .{ .name = name });
}

fn Payload(comptime T: type) type {
    return switch (@typeInfo(T)) {
        .error_union => |it| Payload(it.payload),
        .optional => |it| it.child,
        .pointer => |it| it.child,
        else => T,
    };
}

/// A transform of one event at a time.
pub fn rows(comptime spec: Spec, comptime function: anytype) void {
    rowsWith(spec, {}, function);
}

/// The same with settings: a pointer to a variable of a struct type, whose value holds the defaults.
pub fn rowsWith(comptime spec: Spec, comptime settings: anytype, comptime function: anytype) void {
    const signature = @typeInfo(@TypeOf(function)).@"fn";
    const Event = signature.param_types[0].?;
    const Features = Payload(signature.return_type.?);
    const made = struct {
        fn apply(count: usize, given: [*]const Column, length: usize) callconv(.c) *const anyopaque {
            if (length != Members(Event).names.len) return keep(Failure{ .message = .of(@as([]const u8, "the batch has other columns than the inputs")) });
            var sink = Sink(Features).init(count);
            for (0..count) |row| {
                const number: u32 = @intCast(row);
                if (function(load(Event, given, row))) |returned| sink.take(number, returned) else |_| sink.refuse(number);
            }
            return keep(Applied{ .output = sink.finish() });
        }
    };
    common(Event, Features, spec, settings, "transform");
    export_("gristmill:transform/transform@1.0.0#apply", &made.apply);
}

// ---- Whole columns ----

fn indexOf(comptime T: type, comptime name: []const u8) usize {
    for (Members(T).names, 0..) |member, i| if (std.mem.eql(u8, member, name)) return i;
    @compileError("there is no field `" ++ name ++ "` in " ++ @typeName(T));
}

fn TypeOf(comptime T: type, comptime name: []const u8) type {
    return Members(T).types[indexOf(T, name)];
}

/// Values of one size that lie one after the other: what a slice can be made of.
fn Fixed(comptime T: type) type {
    return switch (kindOf(T)) {
        .boolean, .integer, .float, .timestamp, .vector => Inner(T),
        .text, .bytes => @compileError("texts and bytes have no slice; use at(), and push()"),
    };
}

/// The columns of a batch of events, as they lie in memory.
pub fn In(comptime Event: type) type {
    return struct {
        /// Events in the batch.
        rows: usize,
        columns: [*]const Column,

        const Self = @This();

        /// One value; null where that is legal.
        pub fn at(in: Self, comptime name: []const u8, row: usize) TypeOf(Event, name) {
            return get(TypeOf(Event, name), &in.columns[comptime indexOf(Event, name)], row);
        }

        /// The values of a column of booleans, numbers, timestamps or vectors. What stands where one is null means nothing.
        pub fn values(in: Self, comptime name: []const u8) []const Fixed(TypeOf(Event, name)) {
            const i = comptime indexOf(Event, name);
            const list = if (comptime kindOf(TypeOf(Event, name)) == .vector) in.columns[i].words.vectors.values else in.columns[i].words.fixed;
            return @as([*]const Fixed(TypeOf(Event, name)), @ptrFromInt(list.at))[0..in.rows];
        }

        pub fn isNull(in: Self, comptime name: []const u8, row: usize) bool {
            return !isValid(&in.columns[comptime indexOf(Event, name)], row);
        }
    };
}

/// The columns of features that a function fills: one value for each event.
pub fn Out(comptime Features: type) type {
    return struct {
        rows: usize,
        sink: Sink(Features),
        /// Events that give no row; none until there is one.
        dropped: ?std.DynamicBitSetUnmanaged = null,

        const Self = @This();

        fn init(rows_: usize) Self {
            return .{ .rows = rows_, .sink = .init(rows_) };
        }

        /// The next value of a column, from the first event to the last.
        pub fn push(out: *Self, comptime name: []const u8, value: TypeOf(Features, name)) void {
            out.sink.builders[comptime indexOf(Features, name)].push(value) catch @panic("out of memory");
        }

        /// Room for all values of a column of booleans, numbers, timestamps or vectors, none of them null.
        pub fn values(out: *Self, comptime name: []const u8) []Fixed(TypeOf(Features, name)) {
            const T = TypeOf(Features, name);
            const builder = &out.sink.builders[comptime indexOf(Features, name)];
            builder.values.appendNTimes(allocator, 0, out.rows * @max(1, comptime widthOf(T)) - builder.values.items.len) catch @panic("out of memory");
            if (@typeInfo(T) == .optional) builder.valid.appendNTimes(allocator, 0xff, (out.rows + 7) / 8 - builder.valid.items.len) catch @panic("out of memory");
            builder.rows = out.rows;
            return @as([*]Fixed(T), @ptrCast(builder.values.items.ptr))[0..out.rows];
        }

        /// No row for this event, whatever its values are.
        pub fn skip(out: *Self, row: usize) void {
            if (out.dropped == null) out.dropped = std.DynamicBitSetUnmanaged.initEmpty(allocator, out.rows) catch @panic("out of memory");
            out.dropped.?.set(row);
        }

        /// Refuses an event.
        pub fn reject(out: *Self, row: usize, comptime format: []const u8, arguments: anytype) void {
            out.skip(row);
            _ = report(format, arguments);
            out.sink.refuse(@intCast(row));
        }

        fn problem(out: *const Self) ?[]const u8 {
            inline for (Members(Features).names, 0..) |name, i| {
                const given = out.sink.builders[i].rows;
                if (given != out.rows) return std.fmt.allocPrint(allocator, "output `{s}` has {d} values for {d} events", .{ name, given, out.rows }) catch "out of memory";
            }
            return null;
        }

        fn finish(out: *Self) Output {
            const dropped = out.dropped orelse {
                for (0..out.rows) |row| out.sink.origins.append(allocator, @intCast(row)) catch @panic("out of memory");
                return out.sink.finish();
            };
            var columns_: [Members(Features).names.len]Column = undefined;
            inline for (0..columns_.len) |i| columns_[i] = out.sink.builders[i].finish();
            var left = Sink(Features).init(out.rows - dropped.count());
            left.rejected = out.sink.rejected;
            for (0..out.rows) |row| if (!dropped.isSet(row)) left.add(@intCast(row), load(Features, &columns_, row));
            return left.finish();
        }
    };
}

/// A transform of whole columns: `fn (in: gm.In(Order), out: *gm.Out(Features)) gm.Error!void`. What it fails with is about the whole batch, which the host then halves until the events at fault stand alone.
pub fn columns(comptime spec: Spec, comptime Event: type, comptime Features: type, comptime function: fn (In(Event), *Out(Features)) Error!void) void {
    columnsWith(spec, {}, Event, Features, function);
}

/// The same with settings: a pointer to a variable of a struct type, whose value holds the defaults.
pub fn columnsWith(comptime spec: Spec, comptime settings: anytype, comptime Event: type, comptime Features: type, comptime function: fn (In(Event), *Out(Features)) Error!void) void {
    const made = struct {
        fn apply(count: usize, given: [*]const Column, length: usize) callconv(.c) *const anyopaque {
            if (length != Members(Event).names.len) return keep(Failure{ .message = .of(@as([]const u8, "the batch has other columns than the inputs")) });
            var out = Out(Features).init(count);
            function(.{ .rows = count, .columns = given }, &out) catch return keep(Failure{ .message = .of(reason) });
            if (out.problem()) |problem| return keep(Failure{ .message = .of(problem) });
            return keep(Applied{ .output = out.finish() });
        }
    };
    common(Event, Features, spec, settings, "transform");
    export_("gristmill:transform/transform@1.0.0#apply", &made.apply);
}

/// A stateful transform: `fn (state: *State, event: Event) gm.Error!?Features`. The state is all zeros before the first event of an entity, or after `state.*` was set to zeros, which ends it; its bytes are
/// what the host keeps. What was done to it for an event that is refused is undone.
pub fn fold(comptime spec: Spec, comptime function: anytype) void {
    const signature = @typeInfo(@TypeOf(function)).@"fn";
    const State = @typeInfo(signature.param_types[0].?).pointer.child;
    const Event = signature.param_types[1].?;
    const Features = Payload(signature.return_type.?);
    const made = struct {
        fn apply(
            count: usize,
            given: [*]const Column,
            length: usize,
            groups: [*]const u32,
            bounds: usize,
            _: u32,
            offsets: usize,
            offsets_length: usize,
            bytes: usize,
            bytes_length: usize,
            has_validity: u32,
            validity: usize,
            validity_length: usize,
        ) callconv(.c) *const anyopaque {
            if (length != Members(Event).names.len) return keep(Failure{ .message = .of(@as([]const u8, "the batch has other columns than the inputs")) });
            const before = Column{
                .kind = @intFromEnum(Kind.bytes),
                .words = .{ .texts = .{ .offsets = .{ .at = offsets, .length = offsets_length }, .bytes = .{ .at = bytes, .length = bytes_length } } },
                .validity = .{ .is_some = @intCast(has_validity), .list = .{ .at = validity, .length = validity_length } },
            };
            var sink = Sink(Features).init(count);
            var after: Builder(?Bytes) = .{};
            for (0..bounds -| 1) |group| {
                var state = std.mem.zeroes(State);
                if (isValid(&before, group)) {
                    const kept = cut(&before, group);
                    if (kept.len != @sizeOf(State)) return keep(Failure{ .message = .of(@as([]const u8, "a kept state has another size than the State of this version")) });
                    @memcpy(std.mem.asBytes(&state), kept);
                }
                for (groups[group]..groups[group + 1]) |row| {
                    const number: u32 = @intCast(row);
                    const was = state;
                    if (function(&state, load(Event, given, row))) |returned| sink.take(number, returned) else |_| {
                        state = was;
                        sink.refuse(number);
                    }
                }
                const zero = std.mem.zeroes(State);
                const ended = std.mem.eql(u8, std.mem.asBytes(&state), std.mem.asBytes(&zero));
                const kept: ?Bytes = if (ended) null else .{ .bytes = allocator.dupe(u8, std.mem.asBytes(&state)) catch @panic("out of memory") };
                after.push(kept) catch @panic("out of memory");
            }
            return keep(Folded{ .output = sink.finish(), .states = after.finish() });
        }
    };
    common(Event, Features, spec, {}, "fold");
    export_("gristmill:transform/fold@1.0.0#apply", &made.apply);
}

/// A fold that takes over the states of another version with `fn (from: []const u8, before: []const u8) gm.Error!State`: it is given the version that wrote a state, and its bytes (at any address: copy
/// them). `gm.reject` in it refuses this version. The plugin's world is `migrating-transform`.
pub fn migratingFold(comptime spec: Spec, comptime migrate: anytype, comptime function: anytype) void {
    fold(spec, function);
    const State = @typeInfo(@typeInfo(@TypeOf(function)).@"fn".param_types[0].?).pointer.child;
    const made = struct {
        fn apply(
            from: [*]const u8,
            from_length: usize,
            _: u32,
            offsets: usize,
            offsets_length: usize,
            bytes: usize,
            bytes_length: usize,
            _: u32,
            _: usize,
            _: usize,
        ) callconv(.c) *const anyopaque {
            const before = Column{
                .kind = @intFromEnum(Kind.bytes),
                .words = .{ .texts = .{ .offsets = .{ .at = offsets, .length = offsets_length }, .bytes = .{ .at = bytes, .length = bytes_length } } },
            };
            var after: Builder(Bytes) = .{};
            for (0..offsets_length -| 1) |state| {
                const taken: State = migrate(from[0..from_length], cut(&before, state)) catch return keep(Failure{ .message = .of(reason) });
                after.push(.{ .bytes = std.mem.asBytes(&taken) }) catch @panic("out of memory");
            }
            return keep(Migrated{ .states = after.finish() });
        }

        fn post(_: *const anyopaque) callconv(.c) void {
            call_is_over = true;
        }
    };
    export_("gristmill:transform/migration@1.0.0#migrate", &made.apply);
    export_("cabi_post_gristmill:transform/migration@1.0.0#migrate", &made.post);
}

fn common(comptime Event: type, comptime Features: type, comptime spec: Spec, comptime settings: anytype, comptime interface: []const u8) void {
    comptime {
        @setEvalBranchQuota(100_000);
        for (spec.windows) |window| if (windowProblem(Features, window)) |problem| @compileError("aggregation `" ++ window.feature ++ "`: " ++ problem);
    }
    const made = struct {
        fn describe(at: [*]const u8, length: usize) callconv(.c) *const anyopaque {
            if (readSettings(settings, at[0..length])) |problem| return keep(Failure{ .message = .of(problem) });
            return described(Event, Features, spec);
        }

        fn post(_: *const anyopaque) callconv(.c) void {
            call_is_over = true;
        }

        fn realloc(old: [*]const u8, old_bytes: usize, alignment: usize, bytes: usize) callconv(.c) [*]u8 {
            _ = alignment;
            if (call_is_over) {
                _ = arena.reset(.retain_capacity);
                call_is_over = false;
            }
            const to: []u8 = @ptrCast(alloc(u64, (bytes + 7) / 8 + 1));
            @memcpy(to[0..@min(old_bytes, bytes)], old[0..@min(old_bytes, bytes)]);
            return to.ptr;
        }
    };
    export_("gristmill:transform/" ++ interface ++ "@1.0.0#describe", &made.describe);
    export_("cabi_post_gristmill:transform/" ++ interface ++ "@1.0.0#describe", &made.post);
    export_("cabi_post_gristmill:transform/" ++ interface ++ "@1.0.0#apply", &made.post);
    export_("cabi_realloc", &made.realloc);
}
