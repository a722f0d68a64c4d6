package core

import (
	"errors"
	"runtime"
	"strconv"
	"strings"
)

// structBytes is what the structs of one run may take; a run is at least one struct, at most structsMax.
const (
	structBytes = 64 << 10
	structsMax  = 256
)

// runLength is how many structs are filled at a time: few enough to stay in the cache.
func runLength[S any]() int {
	return min(max(structBytes/max(bytesOf[S](), 1), 1), structsMax)
}

// source fills an author's structs from columns, a run of them at a time.
type source[I any] struct {
	fields []Field
	values []values
	run    []I
	start  int // the row of the first
	rows   int
}

func (s *source[I]) open(b *Batch) error {
	if err := fits(b, s.fields); err != nil {
		return err
	}
	if s.run == nil {
		s.run = make([]I, runLength[I]())
		s.values = make([]values, len(s.fields))
	}
	s.start, s.rows = 0, b.Rows
	for i := range s.fields {
		f := &s.fields[i]
		s.values[i] = f.valuesOf(&b.Columns[i], b.Rows, f.Nullable)
	}
	return nil
}

// fits is about a host that does not keep to the contract.
func fits(b *Batch, fields []Field) error {
	if len(b.Columns) != len(fields) {
		return errors.New("the batch has " + strconv.Itoa(len(b.Columns)) + " columns for " + strconv.Itoa(len(fields)) + " inputs")
	}
	for i, f := range fields {
		if c := &b.Columns[i]; c.Kind != f.Kind || c.Width != f.Width {
			return errors.New("the batch has " + c.Kind.String() + " where input `" + f.Name + "` is " + f.Kind.String())
		}
	}
	return nil
}

// fill gets the structs of the rows from start on.
func (s *source[I]) fill(start int) []I {
	run := s.run[:min(len(s.run), s.rows-start)]
	for i := range s.fields {
		s.fields[i].load(s.values[i], start, len(run), membersOf(run, s.fields[i].offset))
	}
	s.start = start
	return run
}

// close lets go of what the structs point to.
func (s *source[I]) close() {
	clear(s.run)
	clear(s.values)
}

// sink gathers an author's rows into columns, a run of them at a time, and the events that are refused.
type sink[O any] struct {
	fields  []Field
	checked []*Field
	// eager: rows point to what an author may use again for the next one, so that they are moved at once.
	eager   bool
	run     []O
	columns []Column
	nulls   [][]uint32
	origins []uint32
	stored  int
	refused []Rejection
}

func newSink[O any](fields []Field) *sink[O] {
	s := &sink[O]{fields: fields}
	for i := range fields {
		if fields[i].needsCheck() {
			s.checked = append(s.checked, &fields[i])
		}
		s.eager = s.eager || fields[i].Nullable || fields[i].Kind == Bytes
	}
	return s
}

func (s *sink[O]) open(rows int) {
	s.columns, s.nulls = make([]Column, len(s.fields)), make([][]uint32, len(s.fields))
	for i := range s.fields {
		s.columns[i] = s.fields[i].sized(rows)
	}
	s.origins, s.refused, s.stored = make([]uint32, 0, rows), nil, 0
	if s.run == nil {
		s.run = make([]O, 0, runLength[O]())
	}
}

// add adds a row of an event, and says what is wrong with it; then the event's rows have to be taken back.
func (s *sink[O]) add(row O, event int) (wrong string) {
	s.run = append(s.run, row)
	s.origins = append(s.origins, uint32(event))
	for _, f := range s.checked {
		if wrong := f.check(membersOf(s.run[len(s.run)-1:], f.offset)); wrong != "" {
			return wrong
		}
	}
	return ""
}

// mark and undo take back the rows of an event that turns out to be refused.
func (s *sink[O]) mark() int { return len(s.run) }

func (s *sink[O]) undo(mark int) {
	taken := len(s.run) - mark
	s.run = s.run[:mark]
	s.origins = s.origins[:len(s.origins)-taken]
}

func (s *sink[O]) reject(event int, reason string) {
	s.refused = append(s.refused, Rejection{uint32(event), reason})
}

// settle ends an event for which the author has returned an error.
func (s *sink[O]) settle(event int, err error) {
	if reason := unlessSkip(err); reason != "" {
		s.reject(event, reason)
	}
}

// unlessSkip is why an author's error refuses an event; empty when it only skips it.
func unlessSkip(err error) string {
	if errors.Is(err, Skip) {
		return ""
	}
	if reason := err.Error(); reason != "" {
		return reason
	}
	return "refused without a reason"
}

// settled is called after each event, when its rows are there to stay.
func (s *sink[O]) settled() {
	switch {
	case s.eager:
		s.flushEach()
	case len(s.run) >= cap(s.run):
		s.flush()
	}
}

func (s *sink[O]) flushEach() {
	for row := range s.run {
		for i := range s.fields {
			f := &s.fields[i]
			s.nulls[i] = f.storeOne(&s.columns[i], s.nulls[i], s.stored, membersOf(s.run[row:], f.offset))
		}
		s.stored++
	}
	clear(s.run)
	s.run = s.run[:0]
}

// flush moves the rows into the columns.
func (s *sink[O]) flush() {
	for i := range s.fields {
		f := &s.fields[i]
		s.nulls[i] = f.store(&s.columns[i], s.nulls[i], s.stored, len(s.run), membersOf(s.run, f.offset))
	}
	s.stored += len(s.run)
	clear(s.run)
	s.run = s.run[:0]
}

// close makes the output for a batch of this many events.
func (s *sink[O]) close(events int) *Output {
	s.flush()
	for i := range s.columns {
		s.columns[i].setNulls(s.nulls[i], s.stored)
	}
	out := &Output{Batch{s.stored, s.columns}, s.origins, s.refused}
	if s.stored == events && inOrder(s.origins) {
		out.Origins = nil
	}
	s.columns, s.nulls, s.origins, s.refused = nil, nil, nil, nil
	return out
}

func inOrder(origins []uint32) bool {
	for i, origin := range origins {
		if origin != uint32(i) {
			return false
		}
	}
	return true
}

// panicked says what a panic was, and where in the author's code. To be called by the deferred function that has recovered from it.
func panicked(problem any) string {
	var what string
	switch p := problem.(type) {
	case error:
		what = p.Error()
	case string:
		what = p
	case interface{ String() string }:
		what = p.String()
	default:
		what = "a value of another type than error or string"
	}
	return "panic: " + what + where()
}

// where is the place of the panic: the first frame below the runtime's.
func where() string {
	var callers [32]uintptr
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers[:])])
	panicking := false
	for {
		frame, more := frames.Next()
		inRuntime := strings.HasPrefix(frame.Function, "runtime.")
		if panicking && !inRuntime {
			return " (" + frame.File[strings.LastIndexByte(frame.File, '/')+1:] + ":" + strconv.Itoa(frame.Line) + ")"
		}
		panicking = panicking || frame.Function == "runtime.gopanic" || frame.Function == "runtime.sigpanic"
		if !more {
			return ""
		}
	}
}
