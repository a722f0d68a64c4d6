// Package settings reads what the host's configuration gives to a transform. It is a package of its own because encoding/json makes a component twice as large.
package settings

import (
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
)

// JSON reads settings into a struct that holds the defaults:
//
//	var given = struct {
//		Factor float64 `json:"factor"`
//	}{Factor: 2}
//
//	gristmill.Spec{…, Settings: settings.JSON(&given)}
//
// A setting that the struct does not know, or of another type, refuses the transform when it is loaded.
func JSON[S any](into *S) func(text string) error {
	defaults := *into
	return func(text string) error {
		*into = defaults
		if strings.TrimSpace(text) == "" {
			return nil
		}
		decoder := json.NewDecoder(strings.NewReader(text))
		decoder.DisallowUnknownFields()
		err := decoder.Decode(into)
		if err == nil && !ended(decoder) {
			err = errors.New("something follows the JSON object")
		}
		if err != nil {
			*into = defaults
			return errors.New("cannot use the settings: " + strings.TrimPrefix(err.Error(), "json: ") + known(reflect.TypeFor[S]()))
		}
		return nil
	}
}

func ended(decoder *json.Decoder) bool {
	_, err := decoder.Token()
	return err == io.EOF
}

// known lists the settings that a struct has.
func known(of reflect.Type) string {
	var names []string
	for i := 0; of.Kind() == reflect.Struct && i < of.NumField(); i++ {
		name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
		if name == "" {
			name = of.Field(i).Name
		}
		if name != "-" && of.Field(i).IsExported() {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "; known are: " + strings.Join(names, ", ")
}
