package core

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// Result is what became of some events, in a test.
type Result[O any] struct {
	// Rows are the rows of features, each with the index of its event.
	Rows []Row[O]
	// Rejected are the events that were refused.
	Rejected []Rejected
	// Logged are the lines that were logged, "warn a line" for instance.
	Logged []string
	// States are the entities' states after the last event, by key (several inputs with a space between them), of a fold.
	States map[string]string
}

// Row is a row of features.
type Row[O any] struct {
	Event    int
	Features O
}

// Rejected is an event that was refused.
type Rejected struct {
	Event  int
	Reason string
}

// Run runs the transform as a host would, with settings (a JSON text, or empty), without a host: for tests. Defaults are the host's work; write them out.
// An error is one that would refuse the transform, or fail the batch.
func (t *Rows[I, O]) Run(settings string, events ...I) (*Result[O], error) {
	result := &Result[O]{}
	defer listen(&result.Logged)()
	if err := t.plugin.Describe(settings); err != nil {
		return nil, err
	}
	batch := columnsOf(t.plugin.Inputs, events)
	out, err := t.plugin.Apply(batch)
	if err != nil {
		return nil, err
	}
	batch.scribble()
	result.add(t.plugin.Outputs, out, 0)
	return result, nil
}

// Run runs the transform as a host would, with settings (a JSON text, or empty), without a host: for tests. Each event is a batch of its own, so that states
// go through their bytes. An error is one that would refuse the transform, or fail the batch.
func (t *Folds[S, I, O]) Run(settings string, events ...I) (*Result[O], error) {
	result := &Result[O]{States: map[string]string{}}
	defer listen(&result.Logged)()
	if err := t.plugin.Describe(settings); err != nil {
		return nil, err
	}
	for i := range events {
		batch := columnsOf(t.plugin.Inputs, events[i:i+1])
		key := t.plugin.key(batch)
		states := &Column{Kind: Bytes, Offsets: []uint32{0, 0}, Valid: []byte{0}}
		if state, ok := result.States[key]; ok {
			states = &Column{Kind: Bytes, Offsets: []uint32{0, uint32(len(state))}, Bytes: []byte(state)}
		}
		out, after, err := t.plugin.Fold(batch, []uint32{0, 1}, states)
		if err != nil {
			return nil, err
		}
		batch.scribble()
		result.add(t.plugin.Outputs, out, i)
		delete(result.States, key)
		if after.isValid(0) {
			result.States[key] = string(after.bytesAt(0))
		}
	}
	return result, nil
}

// ColumnsResult is what became of some events, in a test of a transform over whole columns.
type ColumnsResult[O any] struct {
	// Columns are those of the features, without the rows of events that gave none.
	Columns O
	// Events says of each row which event it is of.
	Events []int
	// Rejected are the events that were refused.
	Rejected []Rejected
	// Logged are the lines that were logged, "warn a line" for instance.
	Logged []string
}

// Run runs the transform as a host would, with settings (a JSON text, or empty), without a host: for tests. Defaults are the host's work; write them out.
// An error is one that would refuse the transform, or fail the batch.
func (t *Columns[I, O]) Run(settings string, columns I) (*ColumnsResult[O], error) {
	result := &ColumnsResult[O]{}
	defer listen(&result.Logged)()
	if err := t.plugin.Describe(settings); err != nil {
		return nil, err
	}
	in := []I{columns}
	batch := &Batch{Rows: len(*member[[]struct{}](membersOf(in, t.plugin.Inputs[0].offset), 0)), Columns: make([]Column, len(t.plugin.Inputs))}
	events := &Events{rows: batch.Rows}
	nulls := make([][]bool, len(t.plugin.Inputs))
	for i := range t.plugin.Inputs {
		var err error
		if nulls[i], err = t.plugin.Inputs[i].storeColumn(&batch.Columns[i], events, membersOf(in, t.plugin.Inputs[i].offset)); err != nil {
			return nil, err
		}
	}
	out, err := t.plugin.Apply(&finished(batch.Columns, nulls, events).Batch)
	if err != nil {
		return nil, err
	}
	made := make([]O, 1)
	for i := range t.plugin.Outputs {
		f := &t.plugin.Outputs[i]
		f.loadColumn(f.valuesOf(&out.Columns[i], out.Rows, true), out.Rows, membersOf(made, f.offset))
	}
	result.Columns, result.Events, result.Rejected = made[0], originsOf(out), rejectedOf(out, 0)
	return result, nil
}

func (r *Result[O]) add(outputs []Field, out *Output, first int) {
	source := source[O]{fields: outputs}
	if err := source.open(&out.Batch); err != nil {
		panic(err)
	}
	origins := originsOf(out)
	for start := 0; start < out.Rows; {
		run := source.fill(start)
		for i, features := range run {
			r.Rows = append(r.Rows, Row[O]{origins[start+i] + first, features})
		}
		start += len(run)
	}
	r.Rejected = append(r.Rejected, rejectedOf(out, first)...)
}

func originsOf(out *Output) []int {
	origins := make([]int, out.Rows)
	for row := range origins {
		origins[row] = row
		if out.Origins != nil {
			origins[row] = int(out.Origins[row])
		}
	}
	return origins
}

func rejectedOf(out *Output, first int) []Rejected {
	var all []Rejected
	for _, one := range out.Rejected {
		all = append(all, Rejected{int(one.Row) + first, one.Reason})
	}
	return all
}

// columnsOf are events as a host hands them over.
func columnsOf[I any](inputs []Field, events []I) *Batch {
	batch := &Batch{Rows: len(events)}
	for i := range inputs {
		f := &inputs[i]
		column := f.sized(len(events))
		nulls := f.store(&column, nil, 0, len(events), membersOf(events, f.offset))
		column.setNulls(nulls, len(events))
		batch.Columns = append(batch.Columns, column)
	}
	return batch
}

// scribble does what the next call of a host does to the batch before: what an author has kept must not lie there.
func (b *Batch) scribble() {
	for i := range b.Columns {
		c := &b.Columns[i]
		for i := range c.Bools {
			c.Bools[i] = !c.Bools[i]
		}
		for i := range c.Ints {
			c.Ints[i] = ^c.Ints[i]
		}
		for i := range c.Floats {
			c.Floats[i] = -1.5 - c.Floats[i]
		}
		for i := range c.Numbers {
			c.Numbers[i] = -1.5 - c.Numbers[i]
		}
		for i := range c.Bytes {
			c.Bytes[i] ^= 0x55
		}
	}
}

// key is the entity of the one event of a batch.
func (p *Plugin) key(batch *Batch) string {
	var parts []string
	for _, name := range p.Keys() {
		for i := range p.Inputs {
			if c := &batch.Columns[i]; p.Inputs[i].Name == name {
				parts = append(parts, c.text(0))
			}
		}
	}
	return strings.Join(parts, " ")
}

func (c *Column) text(row int) string {
	switch {
	case !c.isValid(row):
		return "null"
	case c.Kind == Boolean:
		return strconv.FormatBool(c.Bools[row])
	case c.Kind == Integer, c.Kind == Time:
		return strconv.FormatInt(c.Ints[row], 10)
	case c.Kind == Float:
		return strconv.FormatFloat(c.Floats[row], 'g', -1, 64)
	case c.Kind == Text:
		return string(c.bytesAt(row))
	}
	return base64.StdEncoding.EncodeToString(c.bytesAt(row))
}

func listen(to *[]string) (stop func()) {
	logged = to
	return func() { logged = nil }
}
