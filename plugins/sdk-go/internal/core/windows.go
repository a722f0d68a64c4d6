package core

import (
	"math"
	"strconv"
	"strings"
)

// Aggregate is a function of a window, with the contract's numbers.
type Aggregate uint8

// The functions of windows.
const (
	Count Aggregate = iota
	Sum
	Mean
	Min
	Max
	Variance
	First
	Last
	Distinct
	Quantile
	LastValues
	Top
)

const listMax = 1_000

// Window is a windowed feature over an output; the functions of the package window make them.
type Window struct {
	// Feature is its name.
	Feature string
	// Column is the output that it is computed over.
	Column string
	// Function is what is computed.
	Function Aggregate
	// Rank is that of a quantile, 0 to 1.
	Rank float64
	// Many is how many values a list has, 1 to 1000.
	Many int
	// Length is a number and s, m, h or d, as in "24h"; empty since the first event.
	Length string
	// Doc is for people.
	Doc string
}

// Over says how long the window is, a number and s, m, h or d, as in "24h". Without it, the window begins with the first event.
func (w Window) Over(length string) Window {
	w.Length = length
	if length == "" {
		w.Length = " " // it was said, and is no length
	}
	return w
}

// Documented says what the feature means, and its unit.
func (w Window) Documented(doc string) Window {
	w.Doc = doc
	return w
}

// Milliseconds are the window's length; false where it has none.
func (w Window) Milliseconds() (uint64, bool) {
	if w.Length == "" {
		return 0, false
	}
	last := len(w.Length) - 1
	unit := map[byte]uint64{'s': 1_000, 'm': 60_000, 'h': 3_600_000, 'd': 86_400_000}[w.Length[last]]
	digits := w.Length[:last]
	number, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || unit == 0 || number > math.MaxUint64/unit {
		return 0, false
	}
	return number * unit, true
}

// windowMistakes are what is wrong with the windows of a spec.
func (p *Plugin) windowMistakes() (mistakes []string) {
	names := map[string]bool{}
	outputs := make([]string, len(p.Outputs))
	for i, f := range p.Outputs {
		names[f.Name] = true
		outputs[i] = f.Name
	}
	for _, w := range p.Windows {
		wrong := func(what string) { mistakes = append(mistakes, "aggregation `"+w.Feature+"`: "+what) }
		milliseconds, _ := w.Milliseconds()
		switch {
		case !isName(w.Feature):
			wrong("a name has 1 to 63 ASCII letters, digits and `_`, and begins with no digit")
		case names[w.Feature]:
			wrong("there is an output or a window of this name already")
		case w.Function > Top:
			wrong("there is no such function; use those of the package gristmill/window")
		case p.output(w.Column) == nil:
			wrong("there is no output `" + w.Column + "` to compute it over; the outputs are: " + strings.Join(outputs, ", "))
		case w.Length != "" && milliseconds == 0:
			wrong("a window of " + strconv.Quote(strings.TrimSpace(w.Length)) + "; a window is a number and s, m, h or d, as in \"24h\", and without Over it is since the first event")
		case w.Function == Quantile && !(w.Rank >= 0 && w.Rank <= 1):
			wrong("a quantile at " + strconv.FormatFloat(w.Rank, 'g', -1, 64) + "; 0 to 1 is right")
		case (w.Function == LastValues || w.Function == Top) && (w.Many < 1 || w.Many > listMax):
			wrong("a list of " + strconv.Itoa(w.Many) + " values; 1 to " + strconv.Itoa(listMax) + " are allowed")
		}
		names[w.Feature] = true
	}
	return mistakes
}

func (p *Plugin) output(name string) *Field {
	for i := range p.Outputs {
		if p.Outputs[i].Name == name {
			return &p.Outputs[i]
		}
	}
	return nil
}
