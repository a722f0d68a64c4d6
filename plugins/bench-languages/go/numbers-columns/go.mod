module numbers_columns

go 1.24

require gristmill v0.0.0

replace gristmill => ../../../sdk-go
