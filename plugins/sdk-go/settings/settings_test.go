package settings_test

import (
	"testing"

	"gristmill/settings"
)

type given struct {
	Factor float64 `json:"factor"`
	Names  []string
	Hidden int `json:"-"`
}

func TestSettingsFillWhatTheyName(t *testing.T) {
	into := given{Factor: 2, Names: []string{"a"}}
	read := settings.JSON(&into)
	for text, want := range map[string]float64{"": 2, " ": 2, "{}": 2, `{"factor": 3}`: 3, ` {"factor": 0.5, "Names": ["b"]} `: 0.5} {
		if err := read(text); err != nil || into.Factor != want {
			t.Errorf("%q gave %v, %v", text, into, err)
		}
	}
}

func TestOthersAreRefused(t *testing.T) {
	into := given{Factor: 2}
	read := settings.JSON(&into)
	for text, want := range map[string]string{
		`{"factr": 3}`:                "cannot use the settings: unknown field \"factr\"; known are: factor, Names",
		`{"Hidden": 3}`:               "cannot use the settings: unknown field \"Hidden\"; known are: factor, Names",
		`{"factor": 3} {}`:            "cannot use the settings: something follows the JSON object; known are: factor, Names",
		`{"factor": 3, "Names": "b"}`: "",
		`{"factor"`:                   "",
		`[]`:                          "",
	} {
		if err := read(text); err == nil || want != "" && err.Error() != want {
			t.Errorf("%q gave %v", text, err)
		}
		if into.Factor != 2 {
			t.Errorf("%q left %v", text, into)
		}
	}
}
