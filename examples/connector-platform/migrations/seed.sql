-- Nine flags and five platforms. Repeatable: what an operator has switched stays as it is.
INSERT INTO connectors.feature_flags (name, description, enabled, rollout) VALUES
('integration_meta', 'Connecting to Meta', true, 100),
('integration_linkedin', 'Connecting to LinkedIn', true, 100),
('integration_tiktok', 'Connecting to TikTok', true, 100),
('integration_gbp', 'Connecting to Google Business Profile', true, 100),
('integration_mailchimp', 'Connecting to Mailchimp', true, 100),
('advanced_analytics', 'Figures of posts are collected', true, 50),
('custom_scheduling', 'Posts go out at a chosen time', true, 100),
('webhook_events', 'Events of platforms are taken in', true, 100),
('bulk_publishing', 'Many posts are started at once', false, 0)
ON CONFLICT (name) DO NOTHING;

INSERT INTO connectors.connector_platforms
(platform, title, flag, scopes, calls, per_seconds, burst) VALUES
('meta', 'Meta', 'integration_meta', '{pages_manage_posts,read_insights}', 200, 3600, 20),
('linkedin', 'LinkedIn', 'integration_linkedin', '{w_organization_social}', 100, 3600, 20),
('tiktok', 'TikTok', 'integration_tiktok', '{video.publish,video.list}', 6, 60, 6),
('gbp', 'Google Business Profile', 'integration_gbp', '{business.manage}', 300, 60, 20),
('mailchimp', 'Mailchimp', 'integration_mailchimp', '{}', 10, 1, 10)
ON CONFLICT (platform) DO NOTHING;
