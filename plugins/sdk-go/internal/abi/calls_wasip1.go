package abi

import (
	"errors"
	"math"
	"strings"

	"gristmill/internal/core"
)

// Describe answers a call of `describe`, in either world.
func Describe(settingsAt, settingsLength uint32) uint32 {
	plugin, err := core.Registered()
	if err == nil {
		err = plugin.Describe(string(slice[byte](list{settingsAt, settingsLength})))
	}
	if err != nil {
		return failed(err)
	}
	said := result[spec]{value: spec{
		name: textOf(plugin.Name), version: textOf(plugin.Version), doc: textOf(plugin.Doc),
		streams: textsOf(plugin.Streams()), entity: textsOf(plugin.Keys()),
		inputs: fieldsOf(plugin.Inputs), outputs: fieldsOf(plugin.Outputs), aggregations: aggregationsOf(plugin.Windows),
	}}
	if plugin.EventTime != "" {
		said.value.eventTime = option{1, textOf(plugin.EventTime)}
	}
	return keep(&said)
}

// Apply answers a call of `apply` in the world row-transform.
func Apply(rows, columnsAt, columnsLength uint32) uint32 {
	plugin, err := core.Registered()
	if err == nil && plugin.Apply == nil {
		err = errors.New("this is a fold, called as a stateless transform")
	}
	if err != nil {
		return failed(err)
	}
	out, err := plugin.Apply(batchFrom(rows, columnsAt, columnsLength))
	if err != nil {
		return failed(err)
	}
	return keep(&result[output]{value: outputOf(out)})
}

// Fold answers a call of `apply` in the world stateful-transform.
func Fold(rows, columnsAt, columnsLength, groupsAt, groupsLength, kind, first, firstLength, second, secondLength, hasValidity, validityAt, validityLength uint32) uint32 {
	plugin, err := core.Registered()
	if err == nil && plugin.Fold == nil {
		err = errors.New("this is a stateless transform, called as a fold")
	}
	if err != nil {
		return failed(err)
	}
	states := columnFrom(&column{uint8(kind), packed{list{first, firstLength}, list{second, secondLength}}, option{uint8(hasValidity), list{validityAt, validityLength}}})
	out, after, err := plugin.Fold(batchFrom(rows, columnsAt, columnsLength), slice[uint32](list{groupsAt, groupsLength}), &states)
	if err != nil {
		return failed(err)
	}
	return keep(&result[folded]{value: folded{outputOf(out), columnOf(after)}})
}

// Migrate answers a call of `migrate` in the world migrating-transform.
func Migrate(from, fromLength, kind, first, firstLength, second, secondLength, hasValidity, validityAt, validityLength uint32) uint32 {
	plugin, err := core.Registered()
	if err == nil && plugin.Migrate == nil {
		err = errors.New("this fold takes over no states; make it with fold.Migrating, or write in plugin.toml: world = \"stateful-transform\"")
	}
	if err != nil {
		return failed(err)
	}
	states := columnFrom(&column{uint8(kind), packed{list{first, firstLength}, list{second, secondLength}}, option{uint8(hasValidity), list{validityAt, validityLength}}})
	after, err := plugin.Migrate(string(slice[byte](list{from, fromLength})), &states)
	if err != nil {
		return failed(err)
	}
	return keep(&result[column]{value: columnOf(after)})
}

func failed(err error) uint32 {
	return keep(&result[list]{1, textOf(strings.ToValidUTF8(err.Error(), "\uFFFD"))})
}

func fieldsOf(fields []core.Field) list {
	all := make([]field, len(fields))
	for i, f := range fields {
		all[i] = field{name: textOf(f.Name), kind: uint8(f.Kind), nullable: f.Nullable, doc: textOf(f.Doc)}
		if f.Default != nil {
			all[i].fallback = option{1, textOf(*f.Default)}
		}
		if f.Kind == core.Vector {
			all[i].hasWidth, all[i].width = 1, uint32(f.Width)
		}
	}
	return listOf(all)
}

func aggregationsOf(windows []core.Window) list {
	all := make([]aggregation, len(windows))
	for i, w := range windows {
		all[i] = aggregation{feature: textOf(w.Feature), column: textOf(w.Column), doc: textOf(w.Doc)}
		all[i].function.tag = uint64(w.Function)
		switch w.Function {
		case core.Quantile:
			all[i].function.payload = math.Float64bits(w.Rank)
		case core.LastValues, core.Top:
			all[i].function.payload = uint64(w.Many)
		}
		if milliseconds, has := w.Milliseconds(); has {
			all[i].hasWindow, all[i].windowMs = 1, milliseconds
		}
	}
	return listOf(all)
}

// batchFrom is the batch as it lies in the arena; nothing is copied.
func batchFrom(rows, columnsAt, columnsLength uint32) *core.Batch {
	columns := slice[column](list{columnsAt, columnsLength})
	b := &core.Batch{Rows: int(rows), Columns: make([]core.Column, len(columns))}
	for i := range columns {
		b.Columns[i] = columnFrom(&columns[i])
	}
	return b
}

func columnFrom(from *column) core.Column {
	c := core.Column{Kind: core.Kind(from.kind)}
	switch c.Kind {
	case core.Boolean:
		c.Bools = slice[bool](from.payload.offsets)
	case core.Integer, core.Time:
		c.Ints = slice[int64](from.payload.offsets)
	case core.Float:
		c.Floats = slice[float64](from.payload.offsets)
	case core.Text, core.Bytes:
		c.Offsets, c.Bytes = slice[uint32](from.payload.offsets), slice[byte](from.payload.bytes)
	case core.Vector:
		of := from.payload.vectors()
		c.Width, c.Numbers = int(of.width), slice[float32](of.values)
	}
	if from.validity.some == 1 {
		c.Valid = slice[byte](from.validity.list)
	}
	return c
}

func columnOf(c *core.Column) column {
	to := column{kind: uint8(c.Kind), validity: option{list: list{nowhere, 0}}}
	switch c.Kind {
	case core.Boolean:
		to.payload.offsets = listOf(c.Bools)
	case core.Integer, core.Time:
		to.payload.offsets = listOf(c.Ints)
	case core.Float:
		to.payload.offsets = listOf(c.Floats)
	case core.Text, core.Bytes:
		to.payload = packed{listOf(c.Offsets), listOf(c.Bytes)}
	case core.Vector:
		*to.payload.vectors() = vectors{uint32(c.Width), listOf(c.Numbers)}
	}
	if c.Valid != nil {
		to.validity = option{1, listOf(c.Valid)}
	}
	return to
}

func outputOf(out *core.Output) output {
	columns := make([]column, len(out.Columns))
	for i := range out.Columns {
		columns[i] = columnOf(&out.Columns[i])
	}
	refused := make([]rejection, len(out.Rejected))
	for i, one := range out.Rejected {
		refused[i] = rejection{one.Row, textOf(strings.ToValidUTF8(one.Reason, "\uFFFD"))}
	}
	to := output{batch: batch{uint32(out.Rows), listOf(columns)}, origins: option{list: list{nowhere, 0}}, rejected: listOf(refused)}
	if out.Origins != nil {
		to.origins = option{1, listOf(out.Origins)}
	}
	return to
}
