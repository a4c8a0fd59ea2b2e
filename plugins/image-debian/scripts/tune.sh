: tune
