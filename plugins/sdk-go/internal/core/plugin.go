package core

import (
	"errors"
	"slices"
	"strings"
)

// Plugin is what the contract asks for, in Go's types.
type Plugin struct {
	Spec
	Inputs, Outputs []Field
	// Apply is set for a stateless transform, Fold for a stateful one.
	Apply func(*Batch) (*Output, error)
	Fold  func(b *Batch, groups []uint32, states *Column) (*Output, *Column, error)
	// Migrate is set for a fold that takes over the states of another version.
	Migrate func(from string, states *Column) (*Column, error)

	mistakes []string
}

var registered []*Plugin

func (p *Plugin) register() { registered = append(registered, p) }

func (p *Plugin) wrong(what string) { p.mistakes = append(p.mistakes, what) }

// Registered is the one transform of this program.
func Registered() (*Plugin, error) {
	switch len(registered) {
	case 0:
		return nil, errors.New("this program makes no transform; write `var _ = gristmill.Transform(…)` in its main package")
	case 1:
		return registered[0], nil
	}
	return nil, errors.New("this program makes more than one transform; a component is one, so give each a folder of its own")
}

// Describe gives the settings to the author, and says what is wrong with the program, all of it at once.
func (p *Plugin) Describe(settings string) error {
	if p.Version == "" {
		p.Version = "0.1.0"
	}
	mistakes := slices.Clone(p.mistakes)
	if len(mistakes) == 0 && len(p.Inputs) == 0 {
		mistakes = append(mistakes, "there are no inputs; the function takes a struct whose members are read")
	}
	if len(mistakes) == 0 && len(p.Outputs) == 0 {
		mistakes = append(mistakes, "there are no outputs; the function returns a struct whose members are written")
	}
	if len(words(p.Entity)) == 0 {
		mistakes = append(mistakes, "Spec.Entity is empty; name the input that is the key")
	}
	for _, name := range words(p.Entity) {
		if len(p.Inputs) > 0 && p.input(name) == nil {
			mistakes = append(mistakes, "Spec.Entity names `"+name+"`, which is no input; "+p.inputNames())
		}
	}
	if len(p.Inputs) > 0 && p.EventTime != "" {
		if f := p.input(p.EventTime); f == nil || f.Kind != Time {
			mistakes = append(mistakes, "Spec.EventTime names `"+p.EventTime+"`, which is no input of type gristmill.Timestamp or time.Time; "+p.inputNames())
		}
	}
	if !isName(p.Name) {
		mistakes = append(mistakes, "Spec.Name is `"+p.Name+"`; a name has 1 to 63 ASCII letters, digits and `_`, and begins with no digit")
	}
	mistakes = append(mistakes, p.windowMistakes()...)
	if len(mistakes) > 0 {
		return errors.New(strings.Join(mistakes, "; "))
	}
	if p.Settings != nil {
		return p.Settings(settings)
	}
	if strings.TrimSpace(settings) != "" {
		return errors.New("this transform takes no settings")
	}
	return nil
}

// Streams are the streams that it reads.
func (p *Plugin) Streams() []string { return words(p.Stream) }

// Keys are the inputs that form the entity's key.
func (p *Plugin) Keys() []string { return words(p.Entity) }

func (p *Plugin) input(name string) *Field {
	for i := range p.Inputs {
		if p.Inputs[i].Name == name {
			return &p.Inputs[i]
		}
	}
	return nil
}

func (p *Plugin) inputNames() string {
	names := make([]string, len(p.Inputs))
	for i, f := range p.Inputs {
		names[i] = f.Name
	}
	return "inputs are " + strings.Join(names, ", ")
}

func words(text string) []string { return strings.Fields(text) }
