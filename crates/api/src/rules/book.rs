//! The rules of this process as a book of rules.

use paramedic_promql::Labels;
use paramedic_rules as stage;

use super::{GroupView, RuleBook, RuleParts, WhySample, WhyView};
use crate::instruments::Work;
use crate::threshold::threshold_of;

impl RuleBook for stage::Rules {
    fn groups(&self) -> Vec<GroupView> {
        stage::Rules::groups(self)
    }

    fn why(&self, alert: &str) -> Work<'_, Vec<RuleParts>> {
        let alert = alert.to_owned();
        Box::pin(async move {
            let told = stage::Rules::why(self, &alert).await;
            let parts = |why: stage::Why| RuleParts {
                group: why.group,
                threshold: threshold_of(&why.rule.query),
                rule: why.rule,
                parts: why.parts.into_iter().map(part).collect(),
            };
            told.into_iter().map(parts).collect()
        })
    }
}

fn part(from: stage::Part) -> WhyView {
    let sample = |series: stage::PartSeries| {
        let pairs: Vec<(&str, &str)> = series.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        WhySample { labels: Labels::from_pairs(&pairs).to_string(), value: series.value }
    };
    WhyView {
        expression: from.expression,
        depth: from.depth,
        samples: from.series.into_iter().map(sample).collect(),
        total: from.series_count,
        error: from.error,
    }
}
